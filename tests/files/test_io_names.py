"""One table of names, in many languages and from many vendors: every sign and every negation counts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.files.names import Role, read_name, read_names

T1, T1CE, T2, FLAIR = SEQUENCES

NATIVE = """
T1_KM-frei|T1_kontrastfrei|T1_sin_medio_de_contraste|T1_free_of_contrast|T1_ce_neg|T1_contrast-negative
T1_wo_contrast|T1_wo_gd|T1_ohne_KM|T1 C-|T1-C
P01_T1c-|T1_Gd-|T1_contrast_free|T1_no_gd|T1_without_contrast|T1 w_o contrast
T1_sans_gado|T1_sans_injection_gado|T1_sin_contraste
T1_senza_mdc|T1_sem_contraste|T1_zonder_contrast|T1_uden_kontrast
T1_bez_kontrastu|T1_nativ|T1_native|T1_nativo
t1_natif|T1_non_contrast|T1_noncontrast|T1_unenhanced|T1_un_enhanced
T1_pre|T1_pre_contrast|T1_precontrast|T1_pre_Gd|T1_vor_KM
T1_avant_gado|T1_prima_mdc|T1_minus_C|T1_C_minus|T1 (C-)|T1 C−
T1_post_biopsy|T1_post_TMZ|T1_post_bev|T1_post_chemoradiation
T1_post_gamma_knife|T1_post_craniotomy|T1_postop|T1_post_op
T1_post_RT|T1_post_chemo|T1_post_treatment|T1_post_surgery|T1_preop
T1_nogd|t1nogd|t1nativ|T1_nach_OP|T1wo|postop_T1
MPRAGE|t1_mprage_sag_p2_iso|t1_mpr_tra_iso|t1_se_tra|SPGR|BRAVO
Ax T1|SAG T1 FLAIR|Ax T1 FLAIR|T1_FLAIR|t1_fl2d_tra|sT1W_3D_TFE
T1W_SE|5_T1_AX|T1_reg_T2|T1-on-T2|T1_to_SRI_brain
T1_to_flair|T1_brain_masked|t1_tirm_tra_dark-fluid|T1 без контраста|T1平扫
T1_Gd(-)|T1 C (-)|T1 C (-) ax|T1 (-C)|T1_oKM|T1_o_KM|T1 sans injection|T1_pre_injection|T1_preinj
T1_fat_sat|T1_posterior|T1_without|T1_ohne
"""
ENHANCED = """
T1_GdDTPA|T1_Gd-DTPA|T1_gadobutrol|T1_gadoteridol_ax
T1 C+|T1_plus_C|T1+C|T1+Gd|P01_T1c+|MPRAGE+C
T1 +C|T1 (C+)|T1+|Ax FSPGR 3D +C|SAG T1 BRAVO +C|Ax T1 FLAIR +C|T1 FLAIR Gd
t1_mprage_sag_KM|t1_mpr_tra_iso_KM|T1_nach_KM|T1_apres_gado
T1_après_gado|T1_con_contraste|T1_com_contraste|T1_dopo_mdc
T1_mit_KM|T1_avec_gado|T1_post|T1_post_contrast|T1_postcontrast
T1_post_Gd|T1_post_KM|T1postGd|t1_postgd_3D|mprage_gd|T1_Gd_AX
T1W_SE_GD|AX T1 POST GAD|T1_w_contrast|T1_with_gadolinium|T1_gadovist|T1_dotarem
T1ce|t1c|T1CE_preop|T1_ce_pre_op|cT1w|ct1|T1-Gd
T1-ce|T1_Gd_post_op|T1GD|T1KM|T1_post_op_gd
T1_Gd(+)|T1 C (+) ax|T1_with|T1_mit|T1_mKM|T1_m_KM|T1 avec injection|T1_post_injection|T1_postinj|T1_Gd_delayed
T1ce_to_T2|T1c_reg_flair|T1 с контрастом|T1增强|IM-0001-0004-T1 AXIAL POST CONTRAST
"""
T2_NAMES = """
T2|T2w_TSE|7_T2_TSE|e7_s4_T2W_TSE|t2_tse_tra_512
t2_spc_ns_sag_p2_iso|AX T2 PROPELLER|Ax T2 FRFSE|T2w_space-T1w|T2_to_T1ce
T2_coreg_T1|T2_post_op|t2tot1|T2_gd|sT2W_TSE
"""
FLAIR_NAMES = """
FLAIR|T2_FLAIR|t2_spc_da-fl_irprep|t2_tirm_tra_dark-fluid
t2_blade_dark-fluid|FL_to_SRI_brain|SAG CUBE T2 FLAIR|FLAIR+C|flair_gd
T2-FLAIR|flair_to_t1|FLAIR_space-T1w|T2 FLAIR FS|flair2t1ce|3D_FLAIR_SHC|T2_dark_fluid
"""
OPEN = """
T1_post_foo|T1_W_WO|T1_with_and_without_contrast|T1_pre_post|T1_native_gd|post_t1
FLAIR_T1|T1_T2|T1+T2|T1_nach|T2_STIR|pd_t2
T1_no_foo_gd_native_plus_C|t1_t1ce|scan|T1_apres
T1_post5min|T1_post_delayed|T1_delayed|T1_late|T1_s_gd
"""
DERIVED = """
t1ce_sub|T1_subtr|T1_T2ratio|R1map_t1|T1_MT|T1_inv2
UNI_T1|t1ce_minus_t1_sub|T1_map|T1_phase|T1_ratio_T2|subtraction_T1
sub_T1ce|t1ce_minus_t1|T2_mapping|T2s|T2_GRE|T1_perfusion|T1_biasfield|T1_T2quotient|T1_delta|T1_mtr|T1_mp2rage_uni|T1_dixon_fat|T1_fat_only|T1_opp|T1_relaxation|T2_relaxometry|T1_dyn|T1_wm|T1_csf|T2_star|X_adc|T1_brain_mask|T1_brainmask|brain_mask|X_mask
"""
LABELS = """
VSD.Brain_3more.XX.O.OT.54517|W39_1998.09.19_Segm|TCGA-02-0006_GlistrBoost_ManuallyCorrected
X_segmentations|X_tumorMask|X_gtv
X_tumor_mask|X_seg|X-seg|seg|tumour_segmentation|X_dseg|X_gt
"""


def _listed(table: str) -> list[str]:
    return [name for line in table.strip().splitlines() for name in line.split("|")]


TABLE = [
    *[(name, T1) for name in _listed(NATIVE)],
    *[(name, T1CE) for name in _listed(ENHANCED)],
    *[(name, T2) for name in _listed(T2_NAMES)],
    *[(name, FLAIR) for name in _listed(FLAIR_NAMES)],
]


@pytest.mark.parametrize(("name", "sequence"), TABLE)
def test_names_of_scans(name: str, sequence: MRSequence) -> None:
    reading = read_name(f"{name}.nii.gz")
    assert (reading.role, reading.sequence) == (Role.IMAGE, sequence)


@pytest.mark.parametrize("name", _listed(OPEN))
def test_what_is_open_is_not_guessed(name: str) -> None:
    assert read_name(f"{name}.nii.gz").role is Role.UNCLEAR


@pytest.mark.parametrize("name", _listed(DERIVED))
def test_derived_images_are_no_scans(name: str) -> None:
    assert read_name(f"{name}.nii.gz").role is Role.NOT_INPUT


@pytest.mark.parametrize("name", _listed(LABELS))
def test_label_maps(name: str) -> None:
    assert read_name(f"{name}.nii.gz").role is Role.LABELS


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        *[(f"sub-1_ce-{word}_T1w", T1) for word in ("unenhanced", "nogd", "nocontrast", "0", "none", "without", "pre")],
        *[(f"sub-1_ce-{word}_T1w", T1CE) for word in ("Gd", "gadolinium", "Dotarem", "xyz")],
        ("sub-1_ce-unknown_T1w", None),
        ("sub-1_acq-FLAIR_T1w", T1),
        ("sub-1_acq-flair_ce-gd_T1w", T1CE),
        ("sub-1_part-mag_T1w", T1),
        ("sub-1_part-phase_T1w", None),
        ("sub-1_inv-2_T1w", None),
        ("sub-1_UNIT1", None),
        ("sub-1_acq-postop_T1w", T1),
    ],
)
def test_bids_entities(name: str, sequence: MRSequence | None) -> None:
    reading = read_name(f"{name}.nii.gz")
    assert reading.sequence is sequence


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([entry for entry in TABLE if not entry[0].startswith(("5_", "7_", "e7", "IM", "P01"))]),
    st.sampled_from(["P7", "case-0012", "Brats18_TCIA10_639_1", "UCSF-100118", "H. 7"]),
    st.sampled_from(["_", " ", "."]),
    st.sampled_from([str.upper, str.lower, lambda text: unicodedata.normalize("NFD", text)]),
)
def test_case_ids_and_accents_do_not_change_the_reading(entry, prefix: str, separator: str, write) -> None:
    name, sequence = entry
    if name == "T1-C" and "-" in prefix:
        return  # among other dashes that one is no sign, and two files with it are asked about
    reading = read_name(f"{write(prefix + separator + name)}.nii.gz")
    assert (reading.role, reading.sequence) == (Role.IMAGE, sequence)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_listed(NATIVE)), st.sampled_from(_listed(ENHANCED)))
@example("T1_FLAIR", "t1_mprage_sag_KM")
@example("T1_FLAIR", "T1_Gd_AX")
def test_a_pair_is_never_exchanged(native: str, enhanced: str) -> None:
    readings = read_names([f"{native}.nii.gz", f"{enhanced}.nii.gz"])
    assert readings[f"{native}.nii.gz"].sequence in (T1, None)
    assert readings[f"{enhanced}.nii.gz"].sequence in (T1CE, None)


def test_pairs_with_signs() -> None:
    for names in (
        ("P T1 C-", "P T1 C+", "P T2", "P FLAIR"),
        ("T1-C", "T1+C", "T2", "FLAIR"),
        ("T1_c-", "T1_c+", "T2", "FL"),
    ):
        readings = read_names([f"{name}.nii.gz" for name in names])
        assert [reading.sequence for reading in readings.values()] == [T1, T1CE, T2, FLAIR]


def test_time_points_called_t1_and_t2_are_no_sequences() -> None:
    names = [f"P01_{time}_{word}.nii.gz" for time in ("T1", "T2") for word in ("t1n", "t1c", "t2w", "t2f")]
    for chosen in (names, names[:4], names[4:]):
        readings = read_names(chosen)
        assert [reading.sequence for reading in readings.values()] == list(SEQUENCES) * (len(chosen) // 4)
        assert {reading.prefix for reading in readings.values()} <= {"P01_T1", "P01_T2"}
    with_both = read_names(["T1_T2_FLAIR.nii", "T1_MPRAGE_KM.nii"])
    assert [reading.sequence for reading in with_both.values()] == [FLAIR, T1CE]
    readings = read_names(["Ax T1 FLAIR.nii", "Ax T2 FLAIR.nii", "Ax T1 FLAIR Gd.nii", "Ax T2.nii"])
    assert [reading.sequence for reading in readings.values()] == [T1, FLAIR, T1CE, T2]
