SELECT clientid FROM "t" WHERE qos + 1 AND true
