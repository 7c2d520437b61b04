setup_js() { :; }
