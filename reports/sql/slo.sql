-- One row: the limits of the study, NULL = no limit.
CREATE TABLE slo AS
SELECT getvariable('slo_ttft_s')::DOUBLE AS ttft_s, getvariable('slo_tpot_s')::DOUBLE AS tpot_s, getvariable('slo_e2e_s')::DOUBLE AS e2e_s;
