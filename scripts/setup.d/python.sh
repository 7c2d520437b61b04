setup_python() { :; }
