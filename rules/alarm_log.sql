-- What hot_rooms republishes comes back in as a message like any other: here it is printed to the terminal.
INSERT INTO terminal
SELECT topic, payload.device AS device, payload.temp AS temp
FROM "alarms/#"
