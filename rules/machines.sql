-- Nested JSON of machines, as nested output with other keys and a class of the motor's load.
INSERT INTO machines
SELECT
  clientid AS device.id,
  payload.motor.rpm AS motor.rpm,
  round(payload.motor.current * 230) AS motor.watt,
  CASE WHEN payload.motor.rpm > 1470 THEN 'fast' WHEN payload.motor.rpm > 1430 THEN 'normal' ELSE 'slow' END AS pace,
  payload.vibration[1] AS vibration,
  now_rfc3339() AS at
FROM "machines/+/state"
