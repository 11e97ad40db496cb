SELECT clientid
WHERE qos = 1
