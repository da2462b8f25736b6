"""Tasks of the Taskonomy data set whose classes are its own; every other one is that of the default dictionary.

Semantic labels are distilled: FCIS on 16 classes of COCO, ResNet-152 on ImageNet's 1000, a Places network on 365 scenes
of which the 63 indoor ones are used (data set description and section 3 of the paper). Object classification is two
tasks of the paper's dictionary, "Object Class. (1000)" and "(100)" (Figs. 2 and 7).
"""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

SEMANTIC_CLASSES = (
    "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "microwave",
    "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
SCENES = {
    3: "alcove", 23: "assembly line", 25: "atrium", 26: "attic", 28: "auto factory", 37: "bank vault", 43: "basement",
    45: "bathroom", 51: "bedchamber", 52: "bedroom", 56: "biology laboratory", 61: "booth", 63: "bow window",
    88: "chemistry lab", 89: "child's room", 93: "clean room", 95: "closet", 100: "computer room",
    102: "conference room", 106: "corridor",
    121: "dining room", 124: "dorm room", 126: "dressing room", 129: "elevator door",
    131: "elevator shaft", 133: "engine room", 135: "escalator", 156: "garage", 165: "greenhouse", 176: "home office",
    177: "home theater", 179: "hospital room", 182: "hotel room", 203: "kitchen", 208: "laundromat", 215: "living room",
    217: "lobby", 228: "mezzanine", 240: "nursery", 241: "nursing home", 244: "office", 246: "office cubicles",
    248: "operating room", 253: "pantry", 255: "parking garage", 264: "physics laboratory", 269: "playroom",
    280: "reception", 281: "recreation room", 282: "repair shop", 285: "restaurant kitchen", 298: "server room",
    303: "shower", 311: "stable", 317: "staircase", 318: "storage room", 328: "television room", 332: "ticket booth",
    343: "utility room", 346: "veterinarian's office", 352: "waiting room", 358: "wet bar", 363: "youth hostel",
}  # fmt: skip
"""The scenes used, by their number among the 365 of Places."""
OBJECTS = {
    401: "accordion", 402: "acoustic guitar", 409: "analog clock", 412: "ashcan", 414: "backpack", 430: "basketball",
    431: "bassinet", 435: "bathtub", 453: "bookcase", 462: "broom", 463: "bucket", 470: "candle", 478: "carton",
    487: "cellular telephone", 488: "chain", 492: "chest", 495: "china cabinet", 504: "coffee mug", 505: "coffeepot",
    508: "computer keyboard", 519: "crate", 520: "crib", 521: "Crock Pot", 526: "desk", 527: "desktop computer",
    528: "dial telephone", 530: "digital clock", 532: "dining table", 533: "dishrag", 534: "dishwasher", 539: "doormat",
    545: "electric fan", 546: "electric guitar", 548: "entertainment center", 550: "espresso maker", 553: "file",
    559: "folding chair", 564: "four-poster", 579: "grand piano", 588: "hamper", 598: "home theater", 606: "iron",
    619: "lampshade", 620: "laptop", 632: "loudspeaker", 648: "medicine chest", 651: "microwave", 662: "modem",
    664: "monitor", 673: "mouse", 681: "notebook", 700: "paper towel", 706: "patio", 711: "perfume", 713: "photocopier",
    716: "picket fence", 721: "pillow", 728: "plastic bag", 729: "plate rack", 733: "pole", 736: "pool table",
    737: "pop bottle", 738: "pot", 742: "printer", 748: "purse", 750: "quilt", 752: "racket", 753: "radiator",
    754: "radio", 760: "refrigerator", 761: "remote control", 765: "rocking chair", 770: "running shoe",
    773: "saltshaker", 778: "scale", 794: "shower curtain", 799: "sliding door", 804: "soap dispenser",
    805: "soccer ball", 809: "soup bowl", 825: "stone wall", 827: "stove", 831: "studio couch", 844: "switch",
    846: "table lamp", 849: "teapot", 851: "television", 859: "toaster", 861: "toilet seat", 882: "vacuum", 883: "vase",
    892: "wall clock", 894: "wardrobe", 897: "washer", 904: "window screen", 905: "window shade", 907: "wine bottle",
    923: "plate", 968: "cup", 999: "toilet tissue",
}  # fmt: skip
"""The objects used, by their number among the 1000 of ImageNet: those that may stand in a room.

The authors' own selection, ``imagenet_selected_classes.txt`` of their repository (StanfordVL/taskonomy, in
``taskbank/assets/web_assets/pseudosemantics``), which names them by WordNet numbers; 1000 classes are in that order.
"""

SEMANTIC_SEGMENTATION = Task(
    "semantic_segmentation", TaskKind.SEGMENTATION, "semantic", 17, family=Family.SEMANTIC, class_names=SEMANTIC_CLASSES
)
OBJECT_CLASSIFICATION = Task(
    "object_classification", TaskKind.CLASSIFICATION, "object_class", 1000, family=Family.SEMANTIC
)
OBJECT_CLASSIFICATION_100 = Task(
    "object_classification_100", TaskKind.CLASSIFICATION, "object_class_100", 100, family=Family.SEMANTIC,
    class_names=tuple(OBJECTS.values()),
)  # fmt: skip
SCENE_CLASSIFICATION = Task(
    "scene_classification", TaskKind.CLASSIFICATION, "scene_class", 63, family=Family.SEMANTIC,
    class_names=tuple(SCENES.values()),
)  # fmt: skip
