/*!
What a statement under way has at hand: its session's DataFusion state, one snapshot, its parameters; and how names in it
are resolved.

All tables of a statement are read from one snapshot. A statement that writes reads from the snapshot of its own
transaction, taken before its first write, so that it never sees what it has written itself.
*/

use crate::catalog;
use crate::error::{Result, SqlError, nearest, no_such_table};
use crate::files;
use crate::provider::Table;
use crate::running::Running;
use crate::semantics;
use crate::session::{CATALOG, Inner, SCHEMA, Template};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, DataFusionError, ParamValues, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, Query, SelectItem, SetExpr, Statement};
use omendb_engine::db::{Snapshot, Transaction};
use omendb_engine::types::TableDef;
use std::sync::Arc;

/// A schema that only this crate writes into statements: tables in it also show what a write must know of a row, its
/// hidden row id and the number of the commit that wrote it.
pub(crate) const TARGET_SCHEMA: &str = "__omendb_target";

/// What a statement under way has at hand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) session: Arc<Inner>,
    pub(crate) state: Arc<SessionState>,
    pub(crate) snapshot: Snapshot,
    pub(crate) running: Arc<Running>,
    template: Arc<Template>,
    params: Arc<[ScalarValue]>,
    /// Tables of this statement alone, which come before all others: the rows that RETURNING works on.
    overlay: Vec<(String, Arc<dyn TableProvider>)>,
}

/// A context that writes: its transaction, and the snapshot from before its first write.
pub(crate) struct Transacted {
    pub(crate) context: Context,
    pub(crate) transaction: Transaction,
    /// Whether a key that another statement has put meanwhile is a reason to run this one again, not an error.
    pub(crate) retries_duplicates: bool,
    /// How often the statement was overtaken by others and began again.
    pub(crate) retries: u32,
}

impl Transacted {
    pub(crate) fn begin(session: &Arc<Inner>, params: &[ScalarValue], running: Arc<Running>) -> Result<Transacted> {
        let transaction = session.database.engine.begin()?;
        let context = Context::new(session, params, transaction.snapshot(), running)?;
        Ok(Transacted { context, transaction, retries_duplicates: false, retries: 0 })
    }

    /// Makes what the statement wrote durable and visible.
    pub(crate) fn commit(self) -> Result<()> {
        self.context.running.check()?;
        let context = self.context;
        self.transaction.commit().map(|_| ()).map_err(|e| context.engine_error(e))
    }
}

impl Context {
    /// For a statement that reads: what has been committed so far.
    pub(crate) fn read(session: &Arc<Inner>, params: &[ScalarValue]) -> Result<Context> {
        let running = session.begin_statement()?;
        Context::new(session, params, session.database.engine.snapshot()?, running)
    }

    fn new(session: &Arc<Inner>, params: &[ScalarValue], snapshot: Snapshot, running: Arc<Running>) -> Result<Context> {
        let template = session.template()?;
        let mut state = template.state.clone();
        // `now()` is the same throughout a statement.
        state.mark_start_execution();
        Ok(Context {
            session: session.clone(),
            state: Arc::new(state),
            snapshot,
            running,
            template,
            params: params.into(),
            overlay: Vec::new(),
        })
    }

    /// The same with a table of its own called `name`.
    pub(crate) fn with_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Context {
        let mut context = self.clone();
        context.overlay.push((name.to_owned(), table));
        context
    }

    /// The stored table that a statement names.
    ///
    /// # Errors
    /// 42P01 when there is none, with a hint at one whose name is near.
    pub(crate) fn table(&self, name: &ObjectName) -> Result<Arc<TableDef>> {
        let name = table_name(name)?;
        match self.snapshot.table(&name)? {
            Some(table) => Ok(table),
            None => Err(self.missing(&name)),
        }
    }

    fn missing(&self, name: &str) -> SqlError {
        let error = no_such_table(name);
        let tables = self.snapshot.tables().unwrap_or_default();
        match nearest(name, tables.iter().map(|t| t.name.as_str())) {
            Some(near) => error.with_hint(format!("Did you mean the table \"{near}\"?")),
            None => error,
        }
    }

    /// A query's plan, with names bound and parameters in place.
    ///
    /// # Errors
    /// What is wrong with it: names, types, things that are not supported.
    pub(crate) fn plan(&self, query: &Query) -> Result<LogicalPlan> {
        let plan = self.plan_with_parameters(query)?;
        if self.params.is_empty() {
            return Ok(plan);
        }
        Ok(plan.with_param_values(ParamValues::from(self.params.to_vec()))?)
    }

    /// A query's plan, with names bound and parameters left as they are.
    ///
    /// # Errors
    /// As [`Context::plan`].
    pub(crate) fn plan_with_parameters(&self, query: &Query) -> Result<LogicalPlan> {
        let mut statement = Statement::Query(Box::new(query.clone()));
        semantics::rewrite(&mut statement)?;
        let planner = SqlToRel::new_with_options(self, self.parser_options());
        planner.statement_to_plan(DFStatement::Statement(Box::new(statement))).map_err(|e| self.with_hint(e))
    }

    /// The planner's error; for a function that does not exist, with a hint at one whose name is near.
    fn with_hint(&self, e: DataFusionError) -> SqlError {
        let error = SqlError::from(e);
        let name = error.message().strip_prefix("function ").and_then(|rest| rest.strip_suffix(" does not exist"));
        let Some(name) = name.filter(|_| error.hint().is_none()) else { return error };
        let state = &self.state;
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let mut names: Vec<&str> = names.chain(state.window_functions().keys()).map(String::as_str).collect();
        names.sort_unstable();
        match nearest(name, names.into_iter()) {
            Some(near) => {
                let hint = format!("Did you mean the function \"{near}\"?");
                error.with_hint(hint)
            }
            None => error,
        }
    }

    /// An expression's plan over the columns of `schema`.
    ///
    /// # Errors
    /// As [`Context::plan`].
    pub(crate) fn plan_expr(&self, expr: ast::Expr, schema: &DFSchema) -> Result<Expr> {
        let expr = rewritten(expr)?;
        let planner = SqlToRel::new_with_options(self, self.parser_options());
        let planned = planner.sql_to_expr(expr, schema, &mut PlannerContext::new())?;
        if self.params.is_empty() {
            return Ok(planned);
        }
        let (planned, _) = planned.infer_placeholder_types(schema)?;
        let values = ParamValues::from(self.params.to_vec());
        use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
        let replaced = planned.transform_up(|e| match &e {
            Expr::Placeholder(p) => {
                let (value, _) = values.get_placeholders_with_values(&p.id)?.into_inner();
                Ok(Transformed::yes(Expr::Literal(value, None)))
            }
            _ => Ok(Transformed::no(e)),
        });
        Ok(replaced.data()?)
    }

    /// The values of an expression for each row of a batch, whose columns are those of `schema`.
    ///
    /// # Errors
    /// What evaluating it raises.
    pub(crate) fn evaluate(&self, expr: Expr, schema: &DFSchema, batch: &RecordBatch) -> Result<ArrayRef> {
        // The analyzer makes arithmetic and casts checked, and works on plans; so the expression becomes one for a moment.
        let simplifier = ExprSimplifier::new(
            SimplifyContext::builder()
                .with_schema(Arc::new(schema.clone()))
                .with_config_options(Arc::clone(self.state.config_options()))
                .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
                .build(),
        );
        let expr = self.analyze(expr, schema)?;
        let expr = simplifier.simplify(expr)?;
        let physical = self.state.create_physical_expr(expr, schema)?;
        Ok(physical.evaluate(batch)?.into_array(batch.num_rows())?)
    }

    fn analyze(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        use datafusion::logical_expr::{EmptyRelation, Projection};
        let input =
            LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(schema.clone()) });
        let name = "value";
        let plan = LogicalPlan::Projection(Projection::try_new(vec![expr.alias(name)], Arc::new(input))?);
        let analyzed = self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {})?;
        match analyzed {
            LogicalPlan::Projection(projection) => match projection.expr.into_iter().next() {
                Some(expr) => Ok(expr.unalias()),
                None => Err(SqlError::internal("an analyzed expression went missing")),
            },
            _ => Err(SqlError::internal("an analyzed expression became something else")),
        }
    }

    /// The one value of an expression without columns, `rows` times.
    ///
    /// # Errors
    /// As [`Context::evaluate`].
    pub(crate) fn evaluate_constant(&self, expr: Expr, rows: usize) -> Result<ArrayRef> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
        self.evaluate(expr, &DFSchema::empty(), &batch)
    }

    /// The engine's error with what SQL knows about it: names instead of ids, values instead of keys.
    pub(crate) fn engine_error(&self, e: omendb_engine::Error) -> SqlError {
        super::assign::engine_error(&self.snapshot, e)
    }

    fn parser_options(&self) -> ParserOptions {
        let options = &self.state.config_options().sql_parser;
        ParserOptions {
            parse_float_as_decimal: options.parse_float_as_decimal,
            enable_ident_normalization: options.enable_ident_normalization,
            enable_options_value_normalization: options.enable_options_value_normalization,
            support_varchar_with_length: options.support_varchar_with_length,
            map_string_types_to_utf8view: options.map_string_types_to_utf8view,
            collect_spans: options.collect_spans,
            default_null_ordering: options.default_null_ordering.as_str().into(),
        }
    }

    fn resolve(&self, name: &TableReference) -> Result<Arc<dyn TableProvider>> {
        if name.catalog().is_some_and(|c| c != CATALOG) {
            return Err(SqlError::unsupported("a statement can read one database only"));
        }
        match name.schema() {
            None | Some(SCHEMA) => self.resolve_public(name),
            Some(TARGET_SCHEMA) => match self.snapshot.table(name.table())? {
                Some(table) => Ok(Arc::new(Table::target(self.snapshot.clone(), table)?)),
                None => Err(self.missing(name.table())),
            },
            Some(catalog::INFORMATION_SCHEMA) => catalog::table(&self.snapshot, name.table())?
                .ok_or_else(|| no_such_table(&format!("{}.{}", catalog::INFORMATION_SCHEMA, name.table()))),
            Some(other) => Err(no_such_table(&format!("{other}.{}", name.table()))),
        }
    }

    fn resolve_public(&self, name: &TableReference) -> Result<Arc<dyn TableProvider>> {
        if name.schema().is_none()
            && let Some((_, table)) = self.overlay.iter().rev().find(|(n, _)| n == name.table())
        {
            return Ok(table.clone());
        }
        if let Some(table) = self.snapshot.table(name.table())? {
            return Ok(Arc::new(Table::new(self.snapshot.clone(), table)?));
        }
        match name.schema().is_none() && files::matches_files(name.table()) {
            true => files::provider(name.table(), &files::SniffOptions::default()),
            false => Err(self.missing(name.table())),
        }
    }
}

/// The name of a stored table, folded.
///
/// # Errors
/// 42P01 for a table in a schema that is not `public`, 0A000 for one in another database.
pub(crate) fn table_name(name: &ObjectName) -> Result<String> {
    let mut parts = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        let ident = part.as_ident().ok_or_else(|| SqlError::unsupported(format!("{name} is not a table's name")))?;
        parts.push(fold(ident));
    }
    match parts.as_slice() {
        [table] => Ok(table.clone()),
        [schema, table] if schema == SCHEMA => Ok(table.clone()),
        [database, schema, table] if database == CATALOG && schema == SCHEMA => Ok(table.clone()),
        [database, _, _] if database != CATALOG => Err(SqlError::unsupported("a statement can use one database only")),
        _ => Err(no_such_table(&parts.join("."))),
    }
}

/// A name as PostgreSQL folds it: lower case unless it is quoted.
pub(crate) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// An expression as [`semantics::rewrite`] leaves it, which works on statements.
fn rewritten(expr: ast::Expr) -> Result<ast::Expr> {
    let mut statement = super::parse::statement("SELECT 1")?;
    let wrong = || SqlError::internal("a rewritten expression went missing");
    *only_item(&mut statement).ok_or_else(wrong)? = SelectItem::UnnamedExpr(expr);
    semantics::rewrite(&mut statement)?;
    match only_item(&mut statement).ok_or_else(wrong)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Ok(expr.clone()),
        _ => Err(wrong()),
    }
}

fn only_item(statement: &mut Statement) -> Option<&mut SelectItem> {
    let Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    select.projection.first_mut()
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        Ok(provider_as_source(self.resolve(&name)?))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>, DataFusionError> {
        let Some(function) = self.state.table_functions().get(name) else {
            return Err(SqlError::new(
                crate::error::state::UNDEFINED_FUNCTION,
                format!("function {name} does not exist"),
            )
            .into());
        };
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let simplify = |arg| simplifier.coerce(arg, &schema).and_then(|e| simplifier.simplify(e));
        let args = args.into_iter().map(simplify).collect::<Result<Vec<_>, _>>()?;
        let args = datafusion::catalog::TableFunctionArgs::new(&args, self.state.as_ref());
        Ok(provider_as_source(function.create_table_provider_with_args(args)?))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>, DataFusionError> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        self.template.type_planner.clone()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
