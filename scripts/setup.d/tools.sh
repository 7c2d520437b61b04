setup_tools() { :; }
