SELECT clientid FROM a JOIN b
