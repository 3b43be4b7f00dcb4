veth_down() { :; }
veth() { :; }
