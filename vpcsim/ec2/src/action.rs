//! The actions that this EC2 answers, each under its API name. A new action gets its entry here, its function in `actions/`
//! and its calls in the witness; everything else (permission, dry run, record, envelope of the answer) is the same for all.
//! Names that are not here are answered with InvalidAction, never with an empty success.

/// An action of the Query API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    AssignPrivateIpAddresses,
    AssociateRouteTable,
    AssociateVpcCidrBlock,
    AttachNetworkInterface,
    CreateNetworkInterface,
    CreateRoute,
    CreateRouteTable,
    CreateTags,
    DeleteNetworkInterface,
    DeleteRoute,
    DeleteRouteTable,
    DeleteTags,
    DescribeInstances,
    DescribeInstanceTypes,
    DescribeNetworkInterfaces,
    DescribeRouteTables,
    DescribeSecurityGroups,
    DescribeSubnets,
    DescribeVpcs,
    DetachNetworkInterface,
    DisassociateRouteTable,
    DisassociateVpcCidrBlock,
    ModifyNetworkInterfaceAttribute,
    ReplaceRoute,
    ReplaceRouteTableAssociation,
    UnassignPrivateIpAddresses,
}

impl Action {
    pub(crate) const ALL: [Self; 26] = [
        Self::AssignPrivateIpAddresses,
        Self::AssociateRouteTable,
        Self::AssociateVpcCidrBlock,
        Self::AttachNetworkInterface,
        Self::CreateNetworkInterface,
        Self::CreateRoute,
        Self::CreateRouteTable,
        Self::CreateTags,
        Self::DeleteNetworkInterface,
        Self::DeleteRoute,
        Self::DeleteRouteTable,
        Self::DeleteTags,
        Self::DescribeInstances,
        Self::DescribeInstanceTypes,
        Self::DescribeNetworkInterfaces,
        Self::DescribeRouteTables,
        Self::DescribeSecurityGroups,
        Self::DescribeSubnets,
        Self::DescribeVpcs,
        Self::DetachNetworkInterface,
        Self::DisassociateRouteTable,
        Self::DisassociateVpcCidrBlock,
        Self::ModifyNetworkInterfaceAttribute,
        Self::ReplaceRoute,
        Self::ReplaceRouteTableAssociation,
        Self::UnassignPrivateIpAddresses,
    ];

    /// Whether it only looks.
    pub(crate) const fn is_read(self) -> bool {
        matches!(
            self,
            Self::DescribeInstances
                | Self::DescribeInstanceTypes
                | Self::DescribeNetworkInterfaces
                | Self::DescribeRouteTables
                | Self::DescribeSecurityGroups
                | Self::DescribeSubnets
                | Self::DescribeVpcs
        )
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AssignPrivateIpAddresses => "AssignPrivateIpAddresses",
            Self::AssociateRouteTable => "AssociateRouteTable",
            Self::AssociateVpcCidrBlock => "AssociateVpcCidrBlock",
            Self::AttachNetworkInterface => "AttachNetworkInterface",
            Self::CreateNetworkInterface => "CreateNetworkInterface",
            Self::CreateRoute => "CreateRoute",
            Self::CreateRouteTable => "CreateRouteTable",
            Self::CreateTags => "CreateTags",
            Self::DeleteNetworkInterface => "DeleteNetworkInterface",
            Self::DeleteRoute => "DeleteRoute",
            Self::DeleteRouteTable => "DeleteRouteTable",
            Self::DeleteTags => "DeleteTags",
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Self::DescribeRouteTables => "DescribeRouteTables",
            Self::DescribeSecurityGroups => "DescribeSecurityGroups",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::DescribeVpcs => "DescribeVpcs",
            Self::DetachNetworkInterface => "DetachNetworkInterface",
            Self::DisassociateRouteTable => "DisassociateRouteTable",
            Self::DisassociateVpcCidrBlock => "DisassociateVpcCidrBlock",
            Self::ModifyNetworkInterfaceAttribute => "ModifyNetworkInterfaceAttribute",
            Self::ReplaceRoute => "ReplaceRoute",
            Self::ReplaceRouteTableAssociation => "ReplaceRouteTableAssociation",
            Self::UnassignPrivateIpAddresses => "UnassignPrivateIpAddresses",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
