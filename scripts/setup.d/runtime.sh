setup_runtime() { :; }
