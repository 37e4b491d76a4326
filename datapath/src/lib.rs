//! Kernel work: netlink, nftables, network namespaces, sysctls
