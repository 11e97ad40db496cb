SELECT clientid FROM $events/client/connected
