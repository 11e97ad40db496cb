INSERT INTO readings alarms SELECT clientid FROM "t"
