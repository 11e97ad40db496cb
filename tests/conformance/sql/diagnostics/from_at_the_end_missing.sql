SELECT clientid
