SELCT clientid FROM "t"
