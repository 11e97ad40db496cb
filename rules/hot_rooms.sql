-- Rooms above 30 degrees: an alarm message for the subscribers of alarms/#.
INSERT INTO alarms
SELECT clientid AS device, payload.temp AS temp, now_rfc3339() AS at
FROM "sensors/+/climate"
WHERE payload.temp > 30
