SELECT clientid FORM "t"
