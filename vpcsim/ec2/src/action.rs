//! The actions that this EC2 answers, each under its API name. A new action gets its entry here, its function in `actions/`
//! and its calls in the witness; everything else (permission, dry run, record, envelope of the answer) is the same for all.
//! Names that are not here are answered with InvalidAction, never with an empty success.

/// An action of the Query API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    AssignPrivateIpAddresses,
    AttachNetworkInterface,
    CreateNetworkInterface,
    CreateTags,
    DeleteNetworkInterface,
    DescribeInstances,
    DescribeInstanceTypes,
    DescribeNetworkInterfaces,
    DescribeSecurityGroups,
    DescribeSubnets,
    DescribeVpcs,
    DetachNetworkInterface,
    ModifyNetworkInterfaceAttribute,
    UnassignPrivateIpAddresses,
}

impl Action {
    pub(crate) const ALL: [Self; 14] = [
        Self::AssignPrivateIpAddresses,
        Self::AttachNetworkInterface,
        Self::CreateNetworkInterface,
        Self::CreateTags,
        Self::DeleteNetworkInterface,
        Self::DescribeInstances,
        Self::DescribeInstanceTypes,
        Self::DescribeNetworkInterfaces,
        Self::DescribeSecurityGroups,
        Self::DescribeSubnets,
        Self::DescribeVpcs,
        Self::DetachNetworkInterface,
        Self::ModifyNetworkInterfaceAttribute,
        Self::UnassignPrivateIpAddresses,
    ];

    /// Whether it only looks.
    pub(crate) const fn is_read(self) -> bool {
        matches!(
            self,
            Self::DescribeInstances
                | Self::DescribeInstanceTypes
                | Self::DescribeNetworkInterfaces
                | Self::DescribeSecurityGroups
                | Self::DescribeSubnets
                | Self::DescribeVpcs
        )
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AssignPrivateIpAddresses => "AssignPrivateIpAddresses",
            Self::AttachNetworkInterface => "AttachNetworkInterface",
            Self::CreateNetworkInterface => "CreateNetworkInterface",
            Self::CreateTags => "CreateTags",
            Self::DeleteNetworkInterface => "DeleteNetworkInterface",
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Self::DescribeSecurityGroups => "DescribeSecurityGroups",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::DescribeVpcs => "DescribeVpcs",
            Self::DetachNetworkInterface => "DetachNetworkInterface",
            Self::ModifyNetworkInterfaceAttribute => "ModifyNetworkInterfaceAttribute",
            Self::UnassignPrivateIpAddresses => "UnassignPrivateIpAddresses",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
