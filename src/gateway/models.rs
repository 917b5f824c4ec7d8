//! Which model a request goes to: what the workspace says about it holds for body and path alike.

use std::borrow::Cow;

use crate::domain::is_model_name;
use crate::enforce::Named;
use crate::upstream::PathModel;

use super::context::Context;
use super::problem::Problem;

impl Context {
    /// Refuses a model that the workspace leaves out, puts the one that an alias stands for into the path, and makes the
    /// path that the upstream is sent. The body is as it is to be.
    ///
    /// # Errors
    /// 403 for such a model, 400 where the upstream needs one and none is named.
    pub(super) fn settle_model(&mut self) -> Result<(), Problem> {
        let (Some(route), Some(caller), Some(inspection)) = (&mut self.route, &self.caller, &mut self.inspection)
        else {
            return Ok(());
        };
        let workspace = &caller.config;
        if let Named::Refused(model) = &inspection.named {
            return Err(Problem::model_not_allowed(model.as_deref()));
        }
        if let Some(asked) = PathModel::of(route.dialect, &route.path) {
            let shown = is_model_name(&asked.name).then_some(asked.name.as_str());
            if inspection.model.is_none() {
                inspection.model = shown.map(str::to_owned);
            }
            let sent = workspace.model_for(&asked.name);
            if !workspace.allows_model(&sent) {
                return Err(Problem::model_not_allowed(shown));
            }
            if let Cow::Owned(sent) = sent {
                route.path = asked.replaced(&route.path, &sent);
            }
        } else if workspace.limits_models() && inspection.named == Named::Nothing && inspection.coverage.received > 0 {
            return Err(Problem::model_not_named());
        }
        self.forwarding.model = inspection.model.as_deref().map(|model| workspace.model_for(model).into_owned());
        let path = route.upstream.path_for(&route.path, self.forwarding.model.as_deref());
        self.forwarding.path = path.ok_or_else(Problem::model_required)?;
        Ok(())
    }
}
