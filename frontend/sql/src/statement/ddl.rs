/*!
CREATE TABLE, CREATE TABLE AS, DROP TABLE, TRUNCATE.

What a definition asks for is done or refused, never accepted and forgotten: UNIQUE, CHECK, FOREIGN KEY, GENERATED,
partitions and whatever else the parser knows is an error (0A000). The whole definition is compared with one made
of the parts that are handled here, so that a part which the parser learns later is refused too.

DEFAULT expressions are kept as text and planned anew for each INSERT, so `now()` is the time of that statement.
*/

use super::assign::{self, Writer};
use super::context::{Context, Transacted, fold, table_name};
use super::{parameters, query};
use crate::catalog::KEY_NAME_ATTRIBUTE;
use crate::error::{Result, SqlError, state};
use crate::semantics::names::shown_name;
use crate::session::{Done, Outcome};
use crate::types::{DEFAULT_ATTRIBUTE, SqlType};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, CreateTable, IndexColumn, ObjectName, PrimaryKeyConstraint, Query, Statement, TableConstraint,
    Truncate,
};
use omendb_engine::db::OnConflict;
use omendb_engine::types::{
    Attributes, Collation, ColumnDef, ColumnId, NewColumn, NewTable, NewTtl, RunChoices, TableDef,
};
use std::sync::Arc;

/// CREATE TABLE, with columns or AS a query.
pub(crate) fn create_table(t: &mut Transacted, create: &CreateTable) -> Result<Outcome> {
    refuse_the_rest(create)?;
    let name = table_name(&create.name)?;
    if t.context.snapshot.table(&name)?.is_some() {
        let message = format!("relation \"{name}\" already exists");
        return match create.if_not_exists {
            true => Ok(Outcome::Done(Done {
                tag: "CREATE TABLE".into(),
                rows: None,
                notices: vec![format!("{message}, skipping")],
            })),
            false => Err(SqlError::new(state::DUPLICATE_TABLE, message)),
        };
    }
    match &create.query {
        Some(query) => create_table_as(t, create, name, query),
        None => {
            let new = definition(&t.context, create, name)?;
            t.transaction.create_table(new)?;
            Ok(Done::tag("CREATE TABLE"))
        }
    }
}

/// Compares the statement with one made of what is handled here.
fn refuse_the_rest(create: &CreateTable) -> Result<()> {
    if create.temporary || create.global.is_some() {
        return Err(SqlError::unsupported("temporary tables are not supported"));
    }
    if create.or_replace {
        return Err(SqlError::unsupported("CREATE OR REPLACE TABLE is not supported")
            .with_hint("Drop the table first: DROP TABLE IF EXISTS …"));
    }
    if create.partition_by.is_some() || create.partition_of.is_some() || create.inherits.is_some() {
        return Err(SqlError::unsupported("partitions and inheritance are not supported"));
    }
    if create.like.is_some() {
        return Err(SqlError::unsupported("CREATE TABLE … (LIKE …) is not supported")
            .with_hint("CREATE TABLE … AS SELECT * FROM … WITH NO DATA copies names and types."));
    }
    let handled = CreateTableBuilder::new(create.name.clone())
        .if_not_exists(create.if_not_exists)
        .columns(create.columns.clone())
        .constraints(create.constraints.clone())
        .table_options(create.table_options.clone())
        .query(create.query.clone())
        .build();
    match handled == *create {
        true => Ok(()),
        false => Err(SqlError::unsupported("this form of CREATE TABLE is not supported")),
    }
}

/// What the statement says of the key: its columns, and its name.
#[derive(Default)]
struct KeyClause {
    columns: Vec<String>,
    name: Option<String>,
    said: bool,
}

impl KeyClause {
    fn say(&mut self, columns: Vec<String>, name: Option<String>, table: &str) -> Result<()> {
        if self.said {
            return Err(SqlError::new(
                state::INVALID_TABLE_DEFINITION,
                format!("multiple primary keys for table \"{table}\" are not allowed"),
            ));
        }
        *self = KeyClause { columns, name, said: true };
        Ok(())
    }
}

fn definition(context: &Context, create: &CreateTable, table: String) -> Result<NewTable> {
    let mut key = KeyClause::default();
    let mut columns: Vec<NewColumn> = Vec::with_capacity(create.columns.len());
    for column in &create.columns {
        let column = new_column(context, column, &table, &mut key)?;
        if columns.iter().any(|c| c.name == column.name) {
            return Err(SqlError::new(
                state::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", column.name),
            ));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(SqlError::new(state::INVALID_TABLE_DEFINITION, "a table must have at least one column"));
    }
    for constraint in &create.constraints {
        match constraint {
            TableConstraint::PrimaryKey(primary) => {
                let names = primary.columns.iter().map(key_column).collect::<Result<Vec<_>>>()?;
                key.say(names, constraint_name(primary)?, &table)?;
            }
            TableConstraint::Unique(_) => return Err(no_constraint("UNIQUE")),
            TableConstraint::ForeignKey(_) => return Err(no_constraint("FOREIGN KEY")),
            TableConstraint::Check(_) => return Err(no_constraint("CHECK")),
            other => return Err(SqlError::unsupported(format!("{other} is not supported"))),
        }
    }
    check_key(&key, &columns)?;
    let (ttl, runs) = parameters(create, &table, &columns)?;
    let mut attributes = Attributes::new();
    if let Some(name) = key.name {
        attributes.insert(KEY_NAME_ATTRIBUTE.into(), name);
    }
    Ok(NewTable { name: table, columns, key: key.columns, ttl, runs, attributes })
}

/// When rows expire, and how runs are written.
fn parameters(create: &CreateTable, table: &str, columns: &[NewColumn]) -> Result<(Option<NewTtl>, RunChoices)> {
    let columns: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.ty)).collect();
    parameters::of_new(&create.table_options, table, &columns)
}

fn check_key(key: &KeyClause, columns: &[NewColumn]) -> Result<()> {
    for (at, name) in key.columns.iter().enumerate() {
        let Some(column) = columns.iter().find(|c| c.name == *name) else {
            return Err(SqlError::new(
                state::UNDEFINED_COLUMN,
                format!("column \"{name}\" named in key does not exist"),
            ));
        };
        if key.columns.iter().skip(at + 1).any(|other| other == name) {
            return Err(SqlError::new(
                state::DUPLICATE_COLUMN,
                format!("column \"{name}\" appears twice in primary key constraint"),
            ));
        }
        if !column.ty.is_orderable() {
            let ty = SqlType::from(column.ty).name();
            return Err(SqlError::new(
                state::UNDEFINED_OBJECT,
                format!("column \"{name}\" of type {ty} cannot be part of a key"),
            )
            .with_detail(format!("Values of type {ty} have no order.")));
        }
    }
    Ok(())
}

fn no_constraint(kind: &str) -> SqlError {
    SqlError::unsupported(format!("{kind} constraints are not supported"))
        .with_detail("A constraint that is not enforced is not accepted either.")
}

fn constraint_name(primary: &PrimaryKeyConstraint) -> Result<Option<String>> {
    let PrimaryKeyConstraint { name, index_name, index_type, columns: _, index_options, characteristics } = primary;
    if characteristics.is_some() {
        return Err(SqlError::unsupported("deferrable keys are not supported"));
    }
    match index_name.is_none() && index_type.is_none() && index_options.is_empty() {
        true => Ok(name.as_ref().map(fold)),
        false => Err(SqlError::unsupported("options of PRIMARY KEY are not supported")),
    }
}

fn key_column(column: &IndexColumn) -> Result<String> {
    let plain = column.operator_class.is_none()
        && column.column.with_fill.is_none()
        && column.column.options == ast::OrderByOptions { asc: None, nulls_first: None };
    match &column.column.expr {
        ast::Expr::Identifier(ident) if plain => Ok(fold(ident)),
        _ => Err(SqlError::unsupported(format!("{column} as a column of a key is not supported"))
            .with_detail("Keys are columns in ascending order.")),
    }
}

fn new_column(context: &Context, column: &ast::ColumnDef, table: &str, key: &mut KeyClause) -> Result<NewColumn> {
    let name = fold(&column.name);
    let ty = SqlType::parse(&column.data_type)?;
    let mut nullable = None;
    let mut default = None;
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => says_nullable(&mut nullable, true, &name, table)?,
            ColumnOption::NotNull => says_nullable(&mut nullable, false, &name, table)?,
            ColumnOption::Default(expr) if default.is_none() => default = Some(expr),
            ColumnOption::PrimaryKey(primary) => {
                let constraint = constraint_name(primary)?.or_else(|| option.name.as_ref().map(fold));
                key.say(vec![name.clone()], constraint, table)?;
            }
            ColumnOption::Unique(_) => return Err(no_constraint("UNIQUE")),
            ColumnOption::ForeignKey(_) => return Err(no_constraint("FOREIGN KEY")),
            ColumnOption::Check(_) => return Err(no_constraint("CHECK")),
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                return Err(SqlError::unsupported("generated columns are not supported"));
            }
            ColumnOption::Collation(collation) => {
                let named = collation.to_string();
                if !matches!(named.trim_matches('"'), "C" | "c" | "POSIX" | "pg_catalog.\"C") {
                    return Err(SqlError::unsupported(format!("collation {named} is not supported"))
                        .with_detail("Text is compared by its bytes, as collation \"C\" does."));
                }
            }
            other => return Err(SqlError::unsupported(format!("column option {other} is not supported"))),
        }
    }
    let mut attributes = ty.attributes();
    if let Some(expr) = default {
        check_default(context, expr, &name, ty)?;
        attributes.insert(DEFAULT_ATTRIBUTE.into(), expr.to_string());
    }
    Ok(NewColumn { name, ty: ty.column, nullable: nullable.unwrap_or(true), attributes })
}

fn says_nullable(said: &mut Option<bool>, nullable: bool, column: &str, table: &str) -> Result<()> {
    match said.replace(nullable) {
        Some(before) if before != nullable => Err(SqlError::new(
            state::SYNTAX_ERROR,
            format!("conflicting NULL/NOT NULL declarations for column \"{column}\" of table \"{table}\""),
        )),
        _ => Ok(()),
    }
}

/// A default must be an expression without columns, aggregates and subqueries that fits its column.
fn check_default(context: &Context, expr: &ast::Expr, name: &str, ty: SqlType) -> Result<()> {
    let column = probe(name, ty);
    let planned = default_value(context, expr, &column)?;
    // A text that does not stand for a value of the type is told now; an expression may depend on when it is evaluated.
    if matches!(expr, ast::Expr::Value(_)) {
        let array = context.evaluate_constant(planned, 1)?;
        let probe = TableDef {
            id: omendb_engine::types::TableId(0),
            storage: omendb_engine::types::StorageId(0),
            name: name.to_owned(),
            columns: vec![column],
            key: Vec::new(),
            ttl: None,
            runs: RunChoices::default(),
            attributes: Attributes::new(),
        };
        Writer::new(Arc::new(probe))?.batch(&[array])?;
    }
    Ok(())
}

fn probe(name: &str, ty: SqlType) -> ColumnDef {
    ColumnDef {
        id: ColumnId::FIRST_USER,
        name: name.to_owned(),
        ty: ty.column,
        nullable: true,
        collation: Collation::C,
        attributes: ty.attributes(),
    }
}

/// A default's plan, in its column's type.
fn default_value(context: &Context, expr: &ast::Expr, column: &ColumnDef) -> Result<Expr> {
    let expr = super::insert::literal_as(expr.clone(), column);
    let planned = match context.plan_expr(expr, &DFSchema::empty()) {
        Err(e) if e.sqlstate() == state::UNDEFINED_COLUMN => {
            return Err(SqlError::unsupported("cannot use column reference in DEFAULT expression"));
        }
        planned => planned?,
    };
    let mut refused = None;
    planned.apply(|e| {
        refused = match e {
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => Some("a subquery"),
            Expr::AggregateFunction(_) => Some("an aggregate"),
            Expr::WindowFunction(_) => Some("a window function"),
            _ => refused,
        };
        Ok(TreeNodeRecursion::Continue)
    })?;
    if let Some(what) = refused {
        return Err(SqlError::unsupported(format!("cannot use {what} in DEFAULT expression")));
    }
    let (_, field) = planned.to_field(&DFSchema::empty())?;
    assign::cast(planned, &field, column)
}

/// The value of a column that an INSERT does not name, in the column's type.
///
/// # Errors
/// What is wrong with the expression by now.
pub(crate) fn default_of(context: &Context, column: &ColumnDef) -> Result<Expr> {
    match default_ast(column)? {
        Some(expr) => default_value(context, &expr, column),
        None => {
            Ok(cast(Expr::Literal(datafusion::common::ScalarValue::Null, None), SqlType::of_column(column).arrow()))
        }
    }
}

/// A column's DEFAULT expression.
///
/// # Errors
/// XX000 when it does not parse, which it did when the table was made.
pub(crate) fn default_ast(column: &ColumnDef) -> Result<Option<ast::Expr>> {
    let Some(text) = column.attributes.get(DEFAULT_ATTRIBUTE) else { return Ok(None) };
    let wrong = || SqlError::internal(format!("the default of column \"{}\" does not parse: {text}", column.name));
    let statement = super::parse::statement(&format!("SELECT {text}"))?;
    let Statement::Query(query) = statement else { return Err(wrong()) };
    let ast::SetExpr::Select(select) = *query.body else { return Err(wrong()) };
    match select.projection.into_iter().next() {
        Some(ast::SelectItem::UnnamedExpr(expr)) => Ok(Some(expr)),
        _ => Err(wrong()),
    }
}

/// CREATE TABLE AS: the table and its rows in one transaction.
fn create_table_as(t: &mut Transacted, create: &CreateTable, name: String, query: &Query) -> Result<Outcome> {
    if !create.constraints.is_empty() {
        return Err(SqlError::unsupported("constraints in CREATE TABLE … AS are not supported"));
    }
    let plan = t.context.plan(query)?;
    let names = result_names(&plan, create)?;
    let mut columns = Vec::with_capacity(names.len());
    for (name, field) in names.into_iter().zip(plan.schema().fields()) {
        let ty = SqlType::of_field(field)?;
        columns.push(NewColumn { name, ty: ty.column, nullable: true, attributes: ty.attributes() });
    }
    let (ttl, runs) = parameters(create, &name, &columns)?;
    let table = t.transaction.create_table(NewTable { name, columns, ttl, runs, ..NewTable::default() })?;
    let plan = as_stored(plan, &table)?;
    let memory = t.context.session.database.load_memory_bytes;
    let writer = Writer::new(table.clone())?;
    let rows = query::start(t.context.clone(), plan)?;
    let mut ingest = t.transaction.ingest(&table, OnConflict::Error, memory)?;
    for batch in rows {
        ingest.write(writer.columns(), &writer.batch(batch?.columns())?)?;
    }
    let report = ingest.finish()?;
    Ok(Done::rows("SELECT", report.rows_stored))
}

fn result_names(plan: &LogicalPlan, create: &CreateTable) -> Result<Vec<String>> {
    let mut names: Vec<String> = plan.schema().fields().iter().map(|f| shown_name(f.name()).to_owned()).collect();
    if create.columns.len() > names.len() {
        return Err(SqlError::new(state::SYNTAX_ERROR, "too many column names were specified"));
    }
    for (name, column) in names.iter_mut().zip(&create.columns) {
        if !matches!(column.data_type, ast::DataType::Unspecified) || !column.options.is_empty() {
            return Err(SqlError::new(state::SYNTAX_ERROR, "CREATE TABLE … AS takes the types from its query"));
        }
        *name = fold(&column.name);
    }
    for (at, name) in names.iter().enumerate() {
        if names.iter().skip(at + 1).any(|other| other == name) {
            return Err(SqlError::new(state::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))
                .with_hint("Give one of them another name with AS."));
        }
    }
    Ok(names)
}

/// The query's columns in the types that are stored.
fn as_stored(plan: LogicalPlan, table: &TableDef) -> Result<LogicalPlan> {
    let mut exprs = Vec::with_capacity(table.columns.len());
    for ((qualifier, field), column) in plan.schema().iter().zip(&table.columns) {
        let source = Expr::Column(Column::from((qualifier, field.as_ref())));
        let arrow = SqlType::of_column(column).arrow();
        let stored = match *field.data_type() == arrow {
            true => source,
            false => cast(source, arrow),
        };
        exprs.push(stored.alias(format!("c{}", exprs.len())));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// DROP TABLE.
pub(crate) fn drop_tables(t: &mut Transacted, statement: &Statement) -> Result<Outcome> {
    let Statement::Drop { if_exists, names, cascade: _, restrict: _, purge, temporary, table, .. } = statement else {
        return Err(SqlError::internal("DROP TABLE expected"));
    };
    if *purge || *temporary || table.is_some() {
        return Err(SqlError::unsupported("this form of DROP TABLE is not supported"));
    }
    let mut notices = Vec::new();
    let mut dropped = Vec::new();
    for name in names {
        match t.context.table(name) {
            Ok(table) if dropped.contains(&table.id) => {}
            Ok(table) => {
                t.transaction.drop_table(table.id)?;
                dropped.push(table.id);
            }
            Err(e) if *if_exists && e.sqlstate() == state::UNDEFINED_TABLE => {
                notices.push(format!("table \"{}\" does not exist, skipping", table_name(name)?));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(Outcome::Done(Done { tag: "DROP TABLE".into(), rows: None, notices }))
}

/// TRUNCATE.
pub(crate) fn truncate(t: &mut Transacted, truncate: &Truncate) -> Result<Outcome> {
    let Truncate { table_names, partitions, table: _, if_exists, identity, cascade: _, on_cluster } = truncate;
    if partitions.is_some() || *if_exists || identity.is_some() || on_cluster.is_some() {
        return Err(SqlError::unsupported("this form of TRUNCATE is not supported"));
    }
    let names: Vec<&ObjectName> = table_names.iter().map(|target| &target.name).collect();
    let mut done = Vec::new();
    for name in names {
        let table = t.context.table(name)?;
        if !done.contains(&table.id) {
            t.transaction.truncate(table.id)?;
            done.push(table.id);
        }
    }
    Ok(Done::tag("TRUNCATE TABLE"))
}
