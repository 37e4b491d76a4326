//! The contract of the cloud layer: what Spur relies on EC2 for, one function per behaviour, run through the real
//! [`spur_cloud_aws::AwsCloud`] against any endpoint that claims to be EC2.
//!
//! `tests/localstack.rs` runs it on LocalStack (start it with `localstack-tests/run`), `tests/vpcsim.rs` on vpcsim. Where an
//! emulator is known to differ from EC2, the contract names a [`Difference`] that says who is right and why, and asserts what
//! the emulator does today as well: an emulator that gets fixed fails its test, and the difference is removed.

pub mod contract;
mod difference;
mod repair;
mod vpcsim;
mod world;

pub use difference::{DIFFERENCES, Difference, Emulator, list};
pub use world::{Node, World};

/// Calls a macro with the names of all contracts, so that both emulators are held to the same list.
#[macro_export]
macro_rules! for_each_contract {
    ($run:ident) => {
        $run! {
            reads_the_limits_of_instance_types
            reads_an_instance
            reads_a_vpc_with_every_cidr
            reads_subnets_by_id_and_by_tag
            reads_security_groups_by_exact_tags
            reads_enis_by_id_by_instance_and_by_tag
            hands_out_hardware_addresses_that_are_valid
            creates_and_deletes_an_eni
            gives_the_first_eni_for_a_repeated_token
            refuses_to_create_in_an_unknown_subnet
            creates_an_eni_with_a_prefix
            tags_an_eni
            sets_the_source_destination_check
            assigns_and_unassigns_addresses
            answers_an_assignment_with_what_is_new
            assigns_addresses_by_name
            leaves_an_address_with_the_eni_that_has_it
            refuses_to_unassign_an_absent_address
            refuses_to_unassign_the_primary_address
            assigns_and_unassigns_prefixes
            refuses_what_a_full_subnet_has_not
            refuses_addresses_beyond_the_quota_of_an_eni
            attaches_and_detaches_an_eni
            attaches_after_a_while
            sets_whether_an_eni_dies_with_its_instance
            refuses_enis_beyond_the_quota_of_an_instance
            refuses_a_device_index_that_is_taken
            refuses_to_attach_an_eni_twice
            refuses_to_attach_across_zones
            refuses_to_delete_an_attached_eni
            refuses_to_detach_the_primary_eni
            refuses_to_detach_what_is_not_attached
            reads_route_tables_by_id_and_by_tag
            reads_the_main_route_table
            creates_replaces_and_deletes_a_route
            refuses_a_route_that_exists
            refuses_routes_of_what_does_not_exist
            refuses_a_route_inside_the_vpc
            refuses_a_route_to_what_is_ec2s_own
            shows_a_route_to_an_unattached_eni_as_a_blackhole
            refuses_routes_beyond_the_quota_of_a_table
            tags_and_untags_a_route_table
        }
    };
}
