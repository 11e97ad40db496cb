SELECT clientid FROM "t";
