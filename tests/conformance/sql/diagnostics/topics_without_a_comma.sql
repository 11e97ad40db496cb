SELECT clientid FROM "a" "b"
