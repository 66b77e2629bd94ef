//! The node: the desired state put into effect on the kernel and the switch.
