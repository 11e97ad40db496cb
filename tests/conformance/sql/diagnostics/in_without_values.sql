SELECT clientid FROM "t" WHERE qos IN ()
