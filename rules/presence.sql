-- Connects and disconnects of devices. FROM names client events like topics; `reason` is the reason of a disconnect.
INSERT INTO presence
SELECT clientid AS device, event, reason, peername AS address, timestamp AS at
FROM "$events/client/connected", "$events/client/disconnected"
