//! Pure decisions: the address pool of a node
