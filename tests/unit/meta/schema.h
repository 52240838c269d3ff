// SPDX-License-Identifier: BSD-3-Clause
// schema: a Butler registry's tables as the client makes them (those that are read, with their
// indexes), a few rows, and a dimension universe like the client's version 8 (single quotes stand
// for double ones).
#pragma once
#include <string.h>

static const char universe_quoted[] =
    "{'version': 8, 'namespace': 'daf_butler', 'skypix': {'common': 'htm7', 'htm': {'class': 'a.b', 'max_level': 24},"
    " 'healpix': {'class': 'a.b', 'max_level': 17}}, 'elements': {"
    "'instrument': {'keys': [{'name': 'name', 'type': 'string', 'length': 32}], 'governor': true},"
    "'band': {'keys': [{'name': 'name', 'type': 'string', 'length': 32}]},"
    "'physical_filter': {'keys': [{'name': 'name', 'type': 'string'}], 'requires': ['instrument'], 'implies': ['band']},"
    "'subfilter': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['band']},"
    "'detector': {'keys': [{'name': 'id', 'type': 'int'}, {'name': 'full_name', 'type': 'string'}], 'requires': ['instrument']},"
    "'group': {'keys': [{'name': 'name', 'type': 'string'}], 'requires': ['instrument']},"
    "'day_obs': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['instrument']},"
    "'visit': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['instrument'], 'implies': ['physical_filter', 'day_obs']},"
    "'exposure': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['instrument'],"
    " 'implies': ['physical_filter', 'group', 'day_obs']},"
    "'skymap': {'keys': [{'name': 'name', 'type': 'string'}], 'governor': true},"
    "'tract': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['skymap']},"
    "'patch': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['skymap', 'tract']},"
    "'visit_detector_region': {'requires': ['visit', 'detector'], 'populated_by': 'visit'},"
    "'visit_system': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['instrument']},"
    "'visit_definition': {'requires': ['exposure', 'visit'], 'always_join': true},"
    "'ssp_hypothesis_table': {'keys': [{'name': 'name', 'type': 'string'}]},"
    "'ssp_balanced_index': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['ssp_hypothesis_table']}"
    "}, 'topology': {'spatial': {'observation_regions': ['visit_detector_region', 'visit']}}}";

static inline char *unquoted(const char *quoted)
{
    char *text = strdup(quoted);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    return text;
}

static const char *const managers[][3] = {
    {"attributes", "lsst.daf.butler.registry.attributes.DefaultButlerAttributeManager", "1.0.1"},
    {"dimensions", "lsst.daf.butler.registry.dimensions.static.StaticDimensionRecordStorageManager", "6.0.2"},
    {"collections", "lsst.daf.butler.registry.collections.synthIntKey.SynthIntKeyCollectionManager", "2.0.0"},
    {"datasets", "lsst.daf.butler.registry.datasets.byDimensions._manager.ByDimensionsDatasetRecordStorageManagerUUID", "2.0.0"},
    {"opaque", "lsst.daf.butler.registry.opaque.ByNameOpaqueTableStorageManager", "0.2.0"},
    {"datastores", "lsst.daf.butler.registry.bridge.monolithic.MonolithicDatastoreRegistryBridgeManager", "0.2.1"},
};
static const char schema_sql[] =
    "CREATE TABLE butler_attributes (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);"
    "CREATE TABLE collection (collection_id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, type SMALLINT NOT NULL, doc TEXT);"
    "CREATE TABLE run (collection_id INTEGER NOT NULL PRIMARY KEY, host VARCHAR(128));"
    "CREATE TABLE collection_chain (parent BIGINT NOT NULL, position SMALLINT NOT NULL, child BIGINT NOT NULL, PRIMARY KEY (parent, position));"
    "CREATE TABLE collection_summary_dataset_type (collection_id BIGINT NOT NULL, dataset_type_id BIGINT NOT NULL,"
    " PRIMARY KEY (collection_id, dataset_type_id));"
    "CREATE TABLE dataset_type (id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, storage_class TEXT NOT NULL,"
    " dimensions_key BIGINT NOT NULL, tag_association_table TEXT NOT NULL, calibration_association_table TEXT);"
    "CREATE TABLE dataset (id CHAR(32) NOT NULL PRIMARY KEY, dataset_type_id BIGINT NOT NULL, ingest_date BIGINT, run_id BIGINT NOT NULL);"
    "CREATE TABLE file_datastore_records (dataset_id CHAR(32) NOT NULL, path TEXT NOT NULL, formatter TEXT, storage_class TEXT,"
    " component VARCHAR(32) NOT NULL, checksum TEXT, file_size BIGINT, PRIMARY KEY (dataset_id, component));"
    "CREATE TABLE instrument (name VARCHAR(32) NOT NULL PRIMARY KEY, visit_max BIGINT);"
    "CREATE TABLE skymap (name TEXT NOT NULL PRIMARY KEY);"
    "CREATE TABLE physical_filter (instrument VARCHAR(32) NOT NULL, name VARCHAR(32) NOT NULL, band VARCHAR(32) NOT NULL, PRIMARY KEY (instrument, name));"
    "CREATE TABLE subfilter (band VARCHAR(32) NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (band, id));"
    "CREATE TABLE detector (instrument VARCHAR(32) NOT NULL, id BIGINT NOT NULL, full_name VARCHAR(32), PRIMARY KEY (instrument, id));"
    "CREATE TABLE \"group\" (instrument VARCHAR(32) NOT NULL, name TEXT NOT NULL, PRIMARY KEY (instrument, name));"
    "CREATE TABLE day_obs (instrument VARCHAR(32) NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (instrument, id));"
    "CREATE TABLE exposure (instrument VARCHAR(32) NOT NULL, id BIGINT NOT NULL, day_obs BIGINT, \"group\" TEXT, physical_filter VARCHAR(32),"
    " PRIMARY KEY (instrument, id));"
    "CREATE TABLE visit (instrument VARCHAR(32) NOT NULL, id BIGINT NOT NULL, day_obs BIGINT, physical_filter VARCHAR(32), PRIMARY KEY (instrument, id));"
    "CREATE INDEX visit_day ON visit (instrument, day_obs);"
    "CREATE TABLE tract (skymap TEXT NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (skymap, id));"
    "CREATE TABLE patch (skymap TEXT NOT NULL, tract BIGINT NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (skymap, tract, id));";

#define TAGS_TABLE(number, columns, key)                                                           \
    "CREATE TABLE dataset_tags_0000000" number " (dataset_type_id BIGINT NOT NULL, dataset_id CHAR(32) NOT NULL,"          \
    " collection_id BIGINT NOT NULL" columns ", PRIMARY KEY (dataset_id, collection_id), UNIQUE (dataset_type_id, collection_id" key "));" \
    "CREATE INDEX tags" number "_coll ON dataset_tags_0000000" number " (collection_id, dataset_type_id);"

#define CALIBS_TABLE(number, columns, key)                                                         \
    "CREATE TABLE dataset_calibs_0000000" number " (id INTEGER NOT NULL PRIMARY KEY, dataset_type_id BIGINT NOT NULL,"      \
    " dataset_id CHAR(32) NOT NULL, collection_id BIGINT NOT NULL" columns ", timespan_begin BIGINT DEFAULT 0,"             \
    " timespan_end BIGINT DEFAULT 4102444800000000000);"                                                                    \
    "CREATE INDEX calibs" number " ON dataset_calibs_0000000" number " (dataset_type_id, collection_id" key ", timespan_begin, timespan_end);"

static const char tags_sql[] =
    TAGS_TABLE("0", "", "")
    TAGS_TABLE("1", ", instrument VARCHAR(32) NOT NULL, detector BIGINT NOT NULL, exposure BIGINT NOT NULL", ", instrument, detector, exposure")
    TAGS_TABLE("2", ", instrument VARCHAR(32) NOT NULL, detector BIGINT NOT NULL, visit BIGINT NOT NULL", ", instrument, detector, visit")
    TAGS_TABLE("3", ", band VARCHAR(32) NOT NULL, skymap TEXT NOT NULL, subfilter BIGINT NOT NULL, tract BIGINT NOT NULL, patch BIGINT NOT NULL",
               ", band, skymap, subfilter, tract, patch")
    TAGS_TABLE("4", ", instrument VARCHAR(32) NOT NULL, \"group\" TEXT NOT NULL", ", instrument, \"group\"")
    TAGS_TABLE("5", ", instrument VARCHAR(32), detector BIGINT", ", instrument, detector")
    CALIBS_TABLE("5", ", instrument VARCHAR(32), detector BIGINT", ", instrument, detector");

// Collections 1 raws, 2 u/alice, 3 u/alice/run1, 4 tagged, 5 chain (3, 2, 4), 6 calib; types 1 raw,
// 2 calexp, 3 dcr, 4 schema, 5 info, 6 camera.
static const char content_sql[] =
    "INSERT INTO collection VALUES (1,'raws',1,NULL),(2,'u/alice',1,''),(3,'u/alice/run1',1,'mine'),(4,'tagged',2,NULL),(5,'chain',3,NULL),(6,'calib',4,NULL);"
    "INSERT INTO collection_chain VALUES (5,-1,3),(5,0,2),(5,7,4);"
    "INSERT INTO dataset_type VALUES (1,'raw','Exposure',1,'dataset_tags_00000001',NULL),(2,'calexp','ExposureF',2,'dataset_tags_00000002',NULL),"
    "(3,'dcr','ExposureF',3,'dataset_tags_00000003',NULL),(4,'schema','Schema',0,'dataset_tags_00000000',NULL),"
    "(5,'info','Dict',4,'dataset_tags_00000004',NULL),(6,'camera','Camera',5,'dataset_tags_00000005','dataset_calibs_00000005');"
    "INSERT INTO collection_summary_dataset_type VALUES (1,1),(2,2),(2,3),(2,4),(3,2),(4,2),(1,5),(1,6);"
    "INSERT INTO instrument VALUES ('Cam',1);"
    "INSERT INTO physical_filter VALUES ('Cam','g DECam','g'),('Cam','r/x','r');"
    "INSERT INTO subfilter VALUES ('r',0),('r',1);"
    "INSERT INTO detector VALUES ('Cam',0,'S0'),('Cam',1,'S1'),('Cam',2,'S2');"
    "INSERT INTO \"group\" VALUES ('Cam','g1');"
    "INSERT INTO day_obs VALUES ('Cam',20240101),('Cam',20240102);"
    "INSERT INTO exposure VALUES ('Cam',100,20240101,'g1','g DECam'),('Cam',101,20240102,'g1','r/x'),('Cam',102,NULL,NULL,NULL);"
    "INSERT INTO visit VALUES ('Cam',100,20240101,'g DECam'),('Cam',101,20240102,'r/x');"
    "INSERT INTO skymap VALUES ('sky');INSERT INTO tract VALUES ('sky',1);INSERT INTO patch VALUES ('sky',1,0),('sky',1,5);";

// What makes the same content such as NameKeyCollectionManager keeps it: names instead of numbers, in
// columns of other names (which keep the type BIGINT; in SQLite that holds a text as well). The format
// is for each of the tables, twice its name; the rest comes after.
static const char *const key_by_name_tables[] = {
    "dataset_tags_00000000", "dataset_tags_00000001", "dataset_tags_00000002", "dataset_tags_00000003",
    "dataset_tags_00000004", "dataset_tags_00000005", "dataset_calibs_00000005", "collection_summary_dataset_type",
};
#define key_by_name_format                                                                         \
    "ALTER TABLE %s RENAME COLUMN collection_id TO collection_name;"                               \
    "UPDATE %s SET collection_name = (SELECT name FROM collection WHERE collection_id = collection_name);"
static const char key_by_name_sql[] =
    "ALTER TABLE dataset RENAME COLUMN run_id TO run_name;"
    "UPDATE collection_chain SET parent = (SELECT name FROM collection WHERE collection_id = parent),"
    " child = (SELECT name FROM collection WHERE collection_id = child);"
    "CREATE TABLE named (name TEXT NOT NULL PRIMARY KEY, type SMALLINT NOT NULL, doc TEXT);"
    "INSERT INTO named SELECT name, type, doc FROM collection; DROP TABLE collection;"
    "ALTER TABLE named RENAME TO collection;";
