-- Hot rooms go to the table and to the alarm topic.
INSERT INTO readings, alarms
SELECT clientid AS device, payload.temp AS temp, now_rfc3339() AS at
FROM "sensors/+/climate"
WHERE payload.temp > 30
