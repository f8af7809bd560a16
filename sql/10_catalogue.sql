/*
 * 10_catalogue: pems_field, the fields of a PFA record and their rules. Before the tables, because validation and
 * comparison read nothing else.
 */

CREATE TABLE @extschema@.pems_field (
    name           text PRIMARY KEY CHECK (name ~ '^[A-Za-z][A-Za-z0-9_]{0,62}$'),
    label          text NOT NULL CHECK (label <> ''),
    type           text NOT NULL CHECK (type IN ('text', 'number', 'integer', 'boolean', 'date', 'timestamp', 'json')),
    writable       boolean NOT NULL DEFAULT true,
    required_when  jsonb CHECK (required_when ?& ARRAY['field', 'equals', 'label']
                                AND pg_catalog.jsonb_typeof(required_when -> 'field') = 'string'
                                AND pg_catalog.jsonb_typeof(required_when -> 'label') = 'string'),
    allowed_values jsonb CHECK (pg_catalog.jsonb_typeof(allowed_values) = 'array'),
    max_length     integer CHECK (max_length > 0),
    minimum        numeric CHECK (minimum NOT IN ('NaN', 'Infinity', '-Infinity')),
    after_field    text CHECK (after_field <> name),
    customized     boolean NOT NULL DEFAULT false
);

COMMENT ON TABLE @extschema@.pems_field IS
    'Field catalogue of the PFA record: drives validation, type-aware comparison and read-only rules. Rows may be '
    'added or changed.';
COMMENT ON COLUMN @extschema@.pems_field.name IS 'Key of the field in the record, camelCase';
COMMENT ON COLUMN @extschema@.pems_field.label IS 'How messages name the field, for example "Monthly rate"';
COMMENT ON COLUMN @extschema@.pems_field.type IS
    'text, number, integer, boolean, date, timestamp or json; values are checked and compared by it';
COMMENT ON COLUMN @extschema@.pems_field.writable IS
    'False: only PEMS sets it, a delta that names it is rejected with READ_ONLY_FIELD';
COMMENT ON COLUMN @extschema@.pems_field.required_when IS
    '{"field", "equals", "label"}: a value is required when that field equals that value; label is the plural in the '
    'message ("required for rentals")';
COMMENT ON COLUMN @extschema@.pems_field.allowed_values IS 'JSON array of the values allowed; NULL: any';
COMMENT ON COLUMN @extschema@.pems_field.max_length IS 'Longest text, in characters; NULL: any';
COMMENT ON COLUMN @extschema@.pems_field.minimum IS 'Smallest number allowed; NULL: any';
COMMENT ON COLUMN @extschema@.pems_field.after_field IS 'This date or timestamp must be later than that field';
COMMENT ON COLUMN @extschema@.pems_field.customized IS
    'True for rows that somebody added or changed; only these are dumped by pg_dump';

INSERT INTO @extschema@.pems_field (name, label, type, writable, required_when, allowed_values, max_length, minimum,
                                    after_field) VALUES
    ('pfaId',               'PFA ID',                'text',      false, NULL, NULL, NULL, NULL, NULL),
    ('areaSilo',            'Area silo',             'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('category',            'Category',              'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('forecastCategory',    'Forecast category',     'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('class',               'Class',                 'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('source',              'Source',                'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('dor',                 'DOR',                   'text',      true,  NULL, '["BEO", "PROJECT"]', NULL, NULL, NULL),
    ('isActualized',        'Actualized',            'boolean',   true,  NULL, NULL, NULL, NULL, NULL),
    ('isDiscontinued',      'Discontinued',          'boolean',   true,  NULL, NULL, NULL, NULL, NULL),
    ('isFundsTransferable', 'Funds transferable',    'boolean',   true,  NULL, NULL, NULL, NULL, NULL),
    ('monthlyRate',         'Monthly rate',          'number',    true,
      '{"field": "source", "equals": "Rental", "label": "rentals"}', NULL, NULL, 0, NULL),
    ('purchasePrice',       'Purchase price',        'number',    true,
      '{"field": "source", "equals": "Purchase", "label": "purchases"}', NULL, NULL, NULL, NULL),
    ('manufacturer',        'Manufacturer',          'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('model',               'Model',                 'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('description',         'Description',           'text',      true,  NULL, NULL, 500,  NULL, NULL),
    ('originalStart',       'Original start',        'timestamp', false, NULL, NULL, NULL, NULL, NULL),
    ('originalEnd',         'Original end',          'timestamp', false, NULL, NULL, NULL, NULL, NULL),
    ('hasPlan',             'Has plan',              'boolean',   false, NULL, NULL, NULL, NULL, NULL),
    ('forecastStart',       'Forecast start',        'timestamp', true,  NULL, NULL, NULL, NULL, NULL),
    ('forecastEnd',         'Forecast end',          'timestamp', true,  NULL, NULL, NULL, NULL, 'forecastStart'),
    ('actualStart',         'Actual start',          'timestamp', true,  NULL, NULL, NULL, NULL, NULL),
    ('actualEnd',           'Actual end',            'timestamp', true,  NULL, NULL, NULL, NULL, NULL),
    ('hasActuals',          'Has actuals',           'boolean',   false, NULL, NULL, NULL, NULL, NULL),
    ('contract',            'Contract',              'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('equipment',           'Equipment',             'text',      true,  NULL, NULL, NULL, NULL, NULL),
    ('lastModified',        'Last modified',         'timestamp', false, NULL, NULL, NULL, NULL, NULL),
    ('lastModifiedBy',      'Last modified by',      'text',      false, NULL, NULL, NULL, NULL, NULL);

/*
 * _pems_field_customize(): trigger, before insert or update on pems_field. Marks the row as somebody's own, so that
 * pg_dump keeps it.  A row that a dump restores replaces the one that CREATE EXTENSION has just installed. Made after
 * the rows above, which are nobody's own.
 * Tables: pems_field.
 */
CREATE FUNCTION @extschema@._pems_field_customize() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    NEW.customized := true;
    IF TG_OP = 'INSERT' THEN
        DELETE FROM @extschema@.pems_field f WHERE f.name = NEW.name AND NOT f.customized;
    END IF;
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_field_customize() IS
    'Internal trigger: marks catalogue rows that somebody changed';

CREATE TRIGGER pems_field_customize BEFORE INSERT OR UPDATE ON @extschema@.pems_field
    FOR EACH ROW EXECUTE FUNCTION @extschema@._pems_field_customize();

ALTER TABLE @extschema@.pems_field ENABLE ALWAYS TRIGGER pems_field_customize;

/*
 * _pems_field_announce(): statement trigger on pems_field: the worker and all sessions read the catalogue again; this
 * session at once.
 * Errors, because one row would stop all checks and all sending: 22023 when label and rules of a field are larger than
 *   64 kB; 22000 when the catalogue cannot be read any more (a value is nested too deeply).
 * Tables: pems_field.
 */
CREATE FUNCTION @extschema@._pems_field_announce() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most  CONSTANT integer := 65536;
    large CONSTANT text := (
        SELECT f.name FROM @extschema@.pems_field f
        WHERE greatest(octet_length(f.label), @extschema@._pems_size(f.required_when, most::bigint),
                       @extschema@._pems_size(f.allowed_values, most::bigint)) > most LIMIT 1);
BEGIN
    IF large IS NOT NULL THEN
        RAISE EXCEPTION 'field "%" is larger than 64 kB', large
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Its label, required_when or allowed_values is.',
                  HINT = 'A rule for so many values is for the application to check.';
    END IF;
    PERFORM @extschema@._pems_forget_catalogue();
    PERFORM @extschema@._pems_delta_problem('{}'::jsonb, NULL::jsonb);
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_field_announce() IS
    'Internal trigger: tells the worker and all sessions that the catalogue changed';

CREATE TRIGGER pems_field_announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @extschema@.pems_field
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_field_announce();
ALTER TABLE @extschema@.pems_field ENABLE ALWAYS TRIGGER pems_field_announce;

/*
 * _pems_catalogue(): the catalogue as the JSON array that the C code reads (src/record/field.h).
 * Returns: [] when there are no fields.
 * Tables: pems_field.
 */
CREATE FUNCTION @extschema@._pems_catalogue() RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'name', f.name, 'label', f.label, 'type', f.type, 'writable', f.writable,
               'requiredWhen', f.required_when, 'allowedValues', f.allowed_values,
               'maxLength', f.max_length, 'minimum', f.minimum, 'after', f.after_field) ORDER BY f.name), '[]')
    FROM @extschema@.pems_field f
$function$;
COMMENT ON FUNCTION @extschema@._pems_catalogue() IS 'Internal: the field catalogue as one JSON array';
