// Hot rooms.
SELECT clientid FROM "t"
