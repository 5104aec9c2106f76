"""From what other systems send to the events of Postorder: one mapping file for each system."""
