SELECT clientid FROM "t" WHERE qos IN [1, 2]
