//! What was measured, by modules, and in the order of the harm that they do.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use lathe_runtime::program::{Op, Step};

use super::distance::Distance;
use super::outputs::{Given, Role};
use super::weights::Origin;
use super::{Agreement, Group, Module, Output, State, VerifyError};
use crate::elaborate::{Elaborated, ModuleId};
use crate::ir::ParamId;

/// The modules of a model and the weights of its compiled program.
pub(super) struct Modules<'a> {
    model: &'a Elaborated,
    origins: &'a [Origin<'a>],
    by_path: BTreeMap<&'a str, ModuleId>,
    /// The module of each weight of the compiled program, and whether it is the weight of that.
    owners: Vec<Option<(ModuleId, bool)>>,
    /// The weight that a module reads, its own or a table, by index in the compiled program.
    read: BTreeMap<ModuleId, usize>,
}

impl<'a> Modules<'a> {
    pub(super) fn new(model: &'a Elaborated, origins: &'a [Origin<'a>]) -> Self {
        let ids = || (0..).map(ModuleId).zip(&model.modules);
        let by_path: BTreeMap<&str, ModuleId> = ids().map(|(id, module)| (module.path.as_str(), id)).collect();
        let by_param: BTreeMap<ParamId, (ModuleId, bool)> = ids()
            .flat_map(|(id, module)| module.params.iter().enumerate().map(move |(at, &param)| (param, (id, at == 0))))
            .collect();
        let owner = |origin: &Origin<'_>| match origin.param {
            Some(param) => by_param.get(&param).copied(),
            // A bias that a module has for a shift that went into it.
            None => {
                let (path, _) = origin.weight.name.rsplit_once('.')?;
                by_path.get(path).map(|&module| (module, false))
            }
        };
        let owners: Vec<_> = origins.iter().map(owner).collect();
        let weights = owners.iter().enumerate().filter_map(|(at, owner)| Some(((*owner)?, at)));
        let mut read: BTreeMap<ModuleId, usize> =
            weights.filter_map(|((module, is_weight), at)| is_weight.then_some((module, at))).collect();
        // A head without a weight of its own reads a table.
        for tie in &model.ties {
            let table = origins.iter().position(|origin| origin.param == Some(tie.table));
            if let (Some(&(head, true)), Some(table)) = (by_param.get(&tie.head), table) {
                read.entry(head).or_insert(table);
            }
        }
        Modules { model, origins, by_path, owners, read }
    }

    /// Whose output a step of both programs gives: that of the module that the original labels it with, else of those
    /// whose parameters the compiled one reads.
    pub(super) fn role(&self, original: &Step, compiled: &Step) -> Role {
        let owner = |weight: usize| self.owners[weight].map(|(module, _)| module);
        if let (Op::ExpertMatMul { .. }, Op::ExpertMatMul { weights, .. }) = (&original.op, &compiled.op) {
            return Role::Experts(weights.iter().map(|weight| owner(weight.index())).collect());
        }
        let mut weights = compiled.op.weights().map(|weight| owner(weight.index())).peekable();
        let labelled = self.by_path.get(original.label.as_str()).filter(|_| weights.peek().is_some());
        Role::Modules(match labelled {
            Some(&module) => BTreeSet::from([module]),
            None => weights.flatten().collect(),
        })
    }

    /// The modules that the compiled model has, by harm. `distances` are those of the weights, `tokens` how many were read.
    pub(super) fn by_harm(
        &self,
        distances: &[Distance],
        given: &BTreeMap<ModuleId, Given>,
        tokens: u64,
    ) -> Vec<Module> {
        let mut others: BTreeMap<ModuleId, Distance> = BTreeMap::new();
        for (owner, distance) in self.owners.iter().zip(distances) {
            if let Some((module, false)) = *owner {
                others.entry(module).or_default().merge(distance);
            }
        }
        let module = |(&id, &read): (&ModuleId, &usize)| {
            let weight = self.origins[read].weight;
            let table = self.owners[read].map(|(owner, _)| owner).filter(|owner| *owner != id);
            let output = |given: &Given| Output {
                tokens: if given.chosen > 0 { given.chosen } else { tokens },
                elsewhere: given.elsewhere,
                alone: given.alone.agreement(),
                in_model: (given.chosen == 0 || given.chosen > given.elsewhere).then(|| given.in_model.agreement()),
            };
            let of = |id: ModuleId| &self.model.modules[id.0 as usize];
            Module {
                path: of(id).path.clone(),
                kind: of(id).kind.name().to_owned(),
                format: weight.format.clone(),
                elements: weight.shape.iter().product(),
                shares: table.map(|table| of(table).path.clone()),
                weight: table.is_none().then(|| distances[read].agreement()),
                others: others.get(&id).map(Distance::agreement),
                kl_alone: None,
                output: given.get(&id).map(output),
            }
        };
        let mut modules: Vec<Module> = self.read.iter().map(module).collect();
        modules.sort_by(|a, b| harm(a).partial_cmp(&harm(b)).unwrap_or(Ordering::Equal));
        modules
    }
}

/// Asks for the divergence that each module makes alone, of those whose outputs differ, and sorts by it.
pub(super) fn measure_harm(
    modules: &mut [Module],
    model: &Elaborated,
    divergences: impl FnOnce(&BTreeSet<ModuleId>) -> Result<BTreeMap<ModuleId, Option<f64>>, VerifyError>,
) -> Result<(), VerifyError> {
    let by_path: BTreeMap<&str, ModuleId> =
        (0..).map(ModuleId).zip(&model.modules).map(|(id, module)| (module.path.as_str(), id)).collect();
    let differs = |module: &&Module| module.output.is_some_and(|output| output.alone.state != State::Equal);
    let differing = modules.iter().filter(differs).filter_map(|module| by_path.get(module.path.as_str()).copied());
    let found = divergences(&differing.collect())?;
    for module in modules.iter_mut() {
        module.kl_alone = by_path.get(module.path.as_str()).and_then(|id| found.get(id).copied().flatten());
    }
    let rank = |module: &Module| match (module.output.map(|output| output.alone.state), module.kl_alone) {
        (Some(State::NotFinite), _) => (0, 0.0),
        (_, Some(divergence)) => (1, -divergence),
        (_, None) => (2, 0.0),
    };
    let harmful = modules.iter().take_while(|module| !module.is_equal()).count();
    modules[..harmful].sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(Ordering::Equal));
    Ok(())
}

impl Module {
    /// Whether its parameters and its output alone are the original's. Not known of one that reads the table of another and
    /// has no output.
    pub fn is_equal(&self) -> bool {
        let parts = [self.weight, self.others, self.output.map(|output| output.alone)];
        let is_known = self.weight.is_some() || self.output.is_some();
        is_known && parts.iter().flatten().all(|agreement| agreement.state == State::Equal)
    }
}

/// Sorts by harm, the largest first: by the output alone, then by the parameters.
fn harm(module: &Module) -> [(u8, f64); 3] {
    let rank = |agreement: Option<Agreement>| match agreement {
        Some(Agreement { state: State::NotFinite, .. }) => (0, 0.0),
        Some(Agreement { state: State::Differs, sqnr_db, .. }) => (1, sqnr_db.unwrap_or(f64::NEG_INFINITY)),
        None => (2, 0.0),
        Some(Agreement { state: State::Equal, .. }) => (3, 0.0),
    };
    // An expert that no token has chosen does harm only elsewhere.
    let output = if module.output.is_none() && module.is_equal() {
        (3, 0.0)
    } else {
        rank(module.output.map(|output| output.alone))
    };
    [output, rank(module.weight), rank(module.others)]
}

/// Modules of one kind and format together.
pub(super) fn groups(modules: &[Module]) -> Vec<Group> {
    let mut groups: Vec<(Group, Vec<f64>)> = Vec::new();
    for module in modules {
        let (kind, format) = (&module.kind, &module.format);
        let at = groups.iter().position(|(group, _)| group.kind == *kind && group.format == *format);
        let at = at.unwrap_or_else(|| {
            let (kind, format) = (kind.clone(), format.clone());
            let group = Group { kind, format, modules: 0, equal: 0, median_db: None, worst: None, worst_db: None };
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        let (group, decibels) = &mut groups[at];
        let found = module.output.and_then(|output| output.alone.sqnr_db);
        group.modules += 1;
        group.equal += u64::from(module.is_equal());
        if group.modules == 1 && !module.is_equal() {
            // They come by harm.
            (group.worst, group.worst_db) = (Some(module.path.clone()), found);
        }
        decibels.extend(found);
    }
    let median = |(group, mut decibels): (Group, Vec<f64>)| {
        decibels.sort_by(f64::total_cmp);
        Group { median_db: decibels.get(decibels.len().saturating_sub(1) / 2).copied(), ..group }
    };
    groups.into_iter().map(median).collect()
}
