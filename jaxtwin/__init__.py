"""From a non-invasive measurement to a patient's simulated physiology."""
