-- Readings of all rooms, one table row each. The room is the second level of the topic.
INSERT INTO readings
SELECT
  clientid AS device,
  nth(2, tokens(topic, '/')) AS room,
  payload.temp AS temp,
  payload.humidity AS humidity,
  timestamp AS received_at
FROM "sensors/+/climate"
