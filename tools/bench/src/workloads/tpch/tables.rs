/*!
TPC-H's eight tables: their rows out of the generator that gives what the specification's own gives, bit by bit, and into the database.
*/

use crate::failure::Failure;
use crate::settings::Settings;
use crate::workloads::OwnTable;
use arrow::array::{RecordBatch, RecordBatchReader};
use omendb_engine::db::{Db, OnConflict};
use omendb_sql::types::SqlType;
use std::sync::Arc;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

/// Rows of a batch.
const BATCH_ROWS: usize = 8 * 1024;

/// A table: its name, its primary key, and its rows at a scale.
pub(super) struct Table {
    pub(super) name: &'static str,
    key: &'static [&'static str],
    generate: fn(f64) -> Box<dyn RecordBatchReader>,
}

/// All of them.
pub(super) const TABLES: [Table; 8] = [
    Table {
        name: "region",
        key: &["r_regionkey"],
        generate: |scale| Box::new(RegionArrow::new(RegionGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "nation",
        key: &["n_nationkey"],
        generate: |scale| Box::new(NationArrow::new(NationGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "supplier",
        key: &["s_suppkey"],
        generate: |scale| Box::new(SupplierArrow::new(SupplierGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "customer",
        key: &["c_custkey"],
        generate: |scale| Box::new(CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "part",
        key: &["p_partkey"],
        generate: |scale| Box::new(PartArrow::new(PartGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "partsupp",
        key: &["ps_partkey", "ps_suppkey"],
        generate: |scale| Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "orders",
        key: &["o_orderkey"],
        generate: |scale| Box::new(OrderArrow::new(OrderGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
    Table {
        name: "lineitem",
        key: &["l_orderkey", "l_linenumber"],
        generate: |scale| Box::new(LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
    },
];

impl Table {
    /// Makes it anew with the rows of a scale, in one bulk load, and gives these.
    pub(super) fn load(&self, db: &Db, settings: &Settings, scale: f64) -> Result<Vec<RecordBatch>, Failure> {
        let reader = (self.generate)(scale);
        let fields = reader.schema();
        let mut columns = Vec::with_capacity(fields.fields().len());
        for field in fields.fields() {
            columns.push((field.name().as_str(), SqlType::of_field(field)?.column));
        }
        let table = OwnTable { name: self.name, columns: &columns, key: self.key }.make(db)?;
        let ids = table.column_ids();
        let schema = table.projected_schema(&ids)?;
        let mut transaction = db.begin()?;
        let mut ingest = transaction.ingest(&table, OnConflict::Error, settings.options()?.memory_bytes)?;
        let mut batches = Vec::new();
        for batch in reader {
            settings.stop_if_interrupted()?;
            let batch = RecordBatch::try_new(Arc::clone(&schema), batch?.columns().to_vec())?;
            ingest.write(&ids, &batch)?;
            batches.push(batch);
        }
        ingest.finish()?;
        transaction.commit()?;
        Ok(batches)
    }
}
