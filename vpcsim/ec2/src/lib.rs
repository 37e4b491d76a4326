//! A model of EC2's VPC API without sockets or clocks
