setup_models() { :; }
