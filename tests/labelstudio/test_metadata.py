from backend.labelstudio.metadata import metadata


def test_plain_values_of_data_and_meta_are_metadata() -> None:
    data = {"image": "/data/upload/1/a.png", "weather": "rain", "hour": 7, "night": True}
    assert metadata(data, {"camera": "front", "weather": "sun"}, "image") == {
        "weather": "rain",
        "hour": "7",
        "night": "True",
        "camera": "front",
    }


def test_files_texts_measurements_and_nested_values_are_none() -> None:
    data = {
        "image": "a.png",
        "other_image": "https://example.com/b.png",
        "mask": "s3://bucket/mask.png",
        "caption": "long " * 40,
        "temperature": 21.5,
        "boxes": [1, 2],
        "place": {"city": "Ulm"},
        "empty": " ",
        "nothing": None,
    }
    assert metadata(data, {}, "image") == {}
