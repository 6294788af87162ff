//! Who acts: tenants, their users, and the devices of a user.

use super::{name, opaque};

name! {
    /// A tenant. Tenants never see each other.
    TenantId, "tenant", opaque
}
name! {
    /// A user: opaque, 1..128 bytes, unique inside a tenant.
    UserId, "user id", opaque
}
name! {
    /// A device of a user: opaque, 1..128 bytes.
    DeviceId, "device id", opaque
}
