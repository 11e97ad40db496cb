SELECT clientid FROM "t"
WHERE topic = 'a/b
