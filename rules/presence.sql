-- Devices that come and go. A client event is selected from like a topic; `reason` says why a device left.
INSERT INTO presence
SELECT clientid AS device, event, reason, peername AS address, timestamp AS at
FROM "$events/client/connected", "$events/client/disconnected"
