//! The Cloud trait on aws-sdk-ec2, and instance metadata
