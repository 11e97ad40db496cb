INSERT INTO readings, alarms
SELECT clientid AS device, flor(payload.temp) AS temp FROM "t"
