-- sinks: readings
-- enabled: maybe
SELECT * FROM "$events/client/conected"
