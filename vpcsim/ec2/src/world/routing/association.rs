//! Who routes by which table. The main association is one like the others, but without a subnet: it stands for all subnets
//! that have none of their own.

use crate::error::{ApiError, Code};
use crate::id::{RouteTableAssociationId, RouteTableId, SubnetId};
use crate::view::Happening;
use crate::world::World;

/// An association.
#[derive(Debug, Clone)]
pub(crate) struct Association {
    pub(crate) id: RouteTableAssociationId,
    pub(crate) of: Associated,
}

/// What is associated with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Associated {
    /// Every subnet without a table of its own.
    Main,
    Subnet(SubnetId),
    /// What comes in from the internet. The fabric has no middlebox, so it makes no difference to packets.
    Internet,
}

impl World {
    /// Associates without a check.
    pub(super) fn found_association(
        &mut self,
        table: &RouteTableId,
        of: Associated,
    ) -> RouteTableAssociationId {
        let id = RouteTableAssociationId::draw(&mut self.routing.random);
        if let Some(table) = self.routing.tables.get_mut(table) {
            table.associations.push(Association { id: id.clone(), of });
        }
        id
    }

    /// Gives a subnet or the gateway a table of its own.
    pub(crate) fn associate(
        &mut self,
        table: &RouteTableId,
        of: Associated,
    ) -> Result<RouteTableAssociationId, ApiError> {
        self.table(table)?;
        let tables = self.routing.tables.values();
        let mut present = tables.flat_map(|table| table.associations.iter().map(move |found| (table, found)));
        match present.find(|(_, association)| association.of == of) {
            Some((present, association)) if present.id == *table => Ok(association.id.clone()),
            Some(_) => {
                let message = format!(
                    "the specified association for route table {table} conflicts with an existing association"
                );
                Err(Code::AlreadyAssociated.because(message))
            }
            None => {
                let id = self.found_association(table, of);
                self.happenings.push(Happening::RoutesChanged);
                Ok(id)
            }
        }
    }

    /// Takes an association away: the subnet routes by the main table again.
    pub(crate) fn disassociate(&mut self, id: &RouteTableAssociationId) -> Result<(), ApiError> {
        if self.association(id)?.1.of == Associated::Main {
            let message = format!("cannot disassociate the main route table association {id}");
            return Err(Code::InvalidParameterValue.because(message));
        }
        self.forget_association(id);
        self.happenings.push(Happening::RoutesChanged);
        Ok(())
    }

    /// Moves an association to another table, the main one too; its new id.
    pub(crate) fn move_association(
        &mut self,
        id: &RouteTableAssociationId,
        table: &RouteTableId,
    ) -> Result<RouteTableAssociationId, ApiError> {
        let of = self.association(id)?.1.of.clone();
        self.table(table)?;
        self.forget_association(id);
        let id = self.found_association(table, of);
        self.happenings.push(Happening::RoutesChanged);
        Ok(id)
    }

    fn association(&self, id: &RouteTableAssociationId) -> Result<(&RouteTableId, &Association), ApiError> {
        let tables = self.routing.tables.values();
        let mut all = tables.flat_map(|table| table.associations.iter().map(|found| (&table.id, found)));
        all.find(|(_, association)| association.id == *id).ok_or_else(|| {
            Code::AssociationNotFound.because(format!("The association ID '{id}' does not exist"))
        })
    }

    fn forget_association(&mut self, id: &RouteTableAssociationId) {
        for table in self.routing.tables.values_mut() {
            table.associations.retain(|association| association.id != *id);
        }
    }
}
