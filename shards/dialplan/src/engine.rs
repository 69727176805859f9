//! The interpreter: rhai without files, modules, clocks, output, or anything that takes memory before it looks at a bound.

use crate::{Limits, run, script};
use rhai::{
    Engine,
    packages::{
        ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
        BasicStringPackage, LogicPackage, MoreStringPackage, Package,
    },
};

/// Words of rhai that no plan needs. `curry`, and `this` in functions of one's own, could build data that no size bounds.
const DISABLED: &[&str] = &["eval", "import", "export", "Fn", "curry", "this"];

/// An engine under these limits. Its functions are the same for all and built once.
pub(crate) fn engine(limits: &Limits) -> Engine {
    let mut engine = Engine::new_raw();
    // What is registered later is found first: ours stand in for some of rhai's.
    engine
        .register_global_module(ArithmeticPackage::new().as_shared_module())
        .register_global_module(LogicPackage::new().as_shared_module())
        .register_global_module(BasicStringPackage::new().as_shared_module())
        .register_global_module(MoreStringPackage::new().as_shared_module())
        .register_global_module(BasicIteratorPackage::new().as_shared_module())
        .register_global_module(BasicFnPackage::new().as_shared_module())
        .register_global_module(BasicMathPackage::new().as_shared_module())
        .register_global_module(BasicArrayPackage::new().as_shared_module())
        .register_global_module(BasicMapPackage::new().as_shared_module())
        .register_global_module(script::module());
    for word in DISABLED {
        engine.disable_symbol(*word);
    }
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    engine.set_max_expr_depths(limits.max_expr_depth, limits.max_expr_depth);
    engine.set_max_functions(limits.max_functions);
    engine.set_max_call_levels(limits.max_call_levels);
    engine.set_max_variables(limits.max_variables);
    engine.set_max_string_size(limits.max_string_bytes);
    engine.set_max_array_size(limits.max_array_items);
    engine.set_max_map_size(limits.max_map_items);
    engine.on_progress(run::progress);
    engine.on_print(|text| run::with(|current| current.log(text)));
    engine.on_debug(|text, _, _| run::with(|current| current.log(text)));
    engine
}
