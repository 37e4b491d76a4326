//! A VPC on one Linux machine
