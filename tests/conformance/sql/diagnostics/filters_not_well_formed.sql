SELECT clientid FROM "a/#/b", "a+", "", "$events/message_publish"
