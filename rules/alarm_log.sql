-- Prints to the terminal the alarms that hot_rooms republishes, which are ordinary messages.
INSERT INTO terminal
SELECT topic, payload.device AS device, payload.temp AS temp
FROM "alarms/#"
